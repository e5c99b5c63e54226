"""The regularizers of a training: which weights each of them has, and when it acts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from app.network.layers import is_head
from app.network.network import Network
from app.training.after_step import AfterStep
from app.training.penalties import DifferentiatedPenalty, Penalties
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.regularizers import ProximalRegularizer, Regularizer, SmoothRegularizer

TAKEN = ("sharing", "l2_sp", "successive")  # names of other penalties


@dataclass
class Bound:
    """A regularizer and its weights.

    Attributes:
        key: What the configuration calls it.
        regularizer: It has started.
        weights: One a task.
    """

    key: str
    regularizer: Regularizer
    weights: list[nn.Parameter]

    def term(self) -> Tensor:
        """The term of a smooth one."""
        assert isinstance(self.regularizer, SmoothRegularizer)
        return self.regularizer.penalty(self.weights)

    def trained(self) -> list[nn.Parameter]:
        """Its weights that are trained."""
        return [weight for weight in self.weights if weight.requires_grad]


class Regularization(nn.Module):
    """All regularizers of a training.

    One of a layer group with several weights has a copy for each of them, `<name>.<number>`.

    Args:
        configured: Name → regularizer.
        network: Whose weights they are of.
        factors: Layer → factor of its learning rate.

    Raises:
        ValueError: One does not fit the network, or a proximal one cannot act on its weights.
    """

    def __init__(self, configured: Mapping[str, Regularizer], network: Network, factors: Mapping[str, float]) -> None:
        super().__init__()
        self.by_name: dict[str, Bound] = {}
        for name, regularizer in configured.items():
            self.by_name |= bound(name, regularizer, network)
        # The weights are the network's, and no state of these modules.
        self.learned_by = ModulesByName[Regularizer]({name: each.regularizer for name, each in self.by_name.items()})
        self._layer_of = {id(p): layer for layer, parameters in network.layers.items() for p in parameters}
        _check_one_proximal(self._proximal())
        for each in self._proximal():
            self._check_rates(each, [factors[self._layer_of[id(weight)]] for weight in each.weights])

    def join(self, penalties: Penalties, after_step: AfterStep, optimizer: Callable[[], Optimizer]) -> None:
        """Have the penalties added, and act after each step of the optimizer."""
        for name, each in self.by_name.items():
            if isinstance(each.regularizer, SmoothRegularizer):
                penalties.add(name, DifferentiatedPenalty(each.term, each.trained))
        if self.by_name:
            after_step.add("proximal", lambda: self.follow(optimizer()))

    @torch.no_grad()
    def begin(self, optimizer: Optimizer) -> None:
        """Look at the weights before the first step.

        Raises:
            ValueError: A proximal regularizer cannot act on them.
        """
        for each in self._proximal():
            self._check_trained(each)
            check_optimizer(each.key, optimizer)
            regularizer = each.regularizer
            assert isinstance(regularizer, ProximalRegularizer)
            regularizer.begin(each.weights)

    @torch.no_grad()
    def follow(self, optimizer: Optimizer) -> None:
        """Act after a step of the optimizer, whose rates are the step's.

        Raises:
            ValueError: Weights of a proximal regularizer are frozen or have different rates.
        """
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for each in self.by_name.values():
            regularizer = each.regularizer
            if isinstance(regularizer, SmoothRegularizer):
                regularizer.update(each.weights)
            elif isinstance(regularizer, ProximalRegularizer):
                self._check_trained(each)
                self._check_rates(each, [groups[id(weight)]["lr"] for weight in each.weights])
                present = [weight.grad is not None for weight in each.weights]
                steps = steps_of(optimizer, groups[id(each.weights[0])], each.weights)
                regularizer.shrink(each.weights, present, steps)

    @torch.no_grad()
    def learned(self) -> dict[str, dict[str, Tensor]]:
        """Name → what that regularizer has to show."""
        return {name: each.regularizer.learned(each.weights) for name, each in self.by_name.items()}

    def _proximal(self) -> list[Bound]:
        return [each for each in self.by_name.values() if isinstance(each.regularizer, ProximalRegularizer)]

    def _check_trained(self, each: Bound) -> None:
        """Refuse weights that are frozen."""
        if frozen := [self._layer_of[id(weight)] for weight in each.weights if not weight.requires_grad]:
            raise ConfigurationError(each.key, "must be of layers that are trained", f"{frozen[0]}, which is frozen")

    def _check_rates(self, each: Bound, rates: Sequence[float]) -> None:
        """Refuse weights whose steps differ."""
        if len({*rates}) > 1:
            found = ", ".join(f"{self._layer_of[id(w)]} {r:.4g}" for w, r in zip(each.weights, rates, strict=True))
            raise ConfigurationError(each.key, "must be of layers of one learning rate", found)


def bound(name: str, regularizer: Regularizer, network: Network) -> dict[str, Bound]:
    """A regularizer by its name, or its copies, one a weight of a layer group, by theirs.

    Raises:
        ValueError: Its name, tasks or layer cannot be, or the tasks' weights have not the shapes that it needs.
    """
    key, tasks = f"model.regularizers.{name}", list(network.tasks)
    if name in TAKEN:
        raise ConfigurationError(key, f"must have another name: penalties are called {', '.join(TAKEN)}", name)
    chosen = tasks if regularizer.tasks is None else list(regularizer.tasks)
    if unknown := sorted({*chosen} - {*tasks}):
        raise ConfigurationError(f"{key}.tasks", f"must be among the data's tasks {tasks}", unknown)
    if len({*chosen}) < max(2, len(chosen)):
        raise ConfigurationError(f"{key}.tasks", "must be two or more, each once", chosen)
    found = {}
    of_tasks = (
        heads_of(network, chosen, key) if regularizer.layer is None else layers_of(network, chosen, regularizer, key)
    )
    rows = list(zip(*of_tasks, strict=True))
    for number, weights in enumerate(rows):
        _check_shapes(key, regularizer, chosen, weights)
        own = deepcopy(regularizer)
        own.start(chosen, [weight.shape for weight in weights])
        found[f"{name}.{number}" if len(rows) > 1 else name] = Bound(key, own, list(weights))
    return found


def heads_of(network: Network, tasks: Sequence[str], key: str) -> list[list[nn.Parameter]]:
    """The last matrix of each task's head.

    Raises:
        ValueError: A head has none.
    """
    found = {task: [p for p in network.heads[task].parameters() if p.ndim > 1][-1:] for task in tasks}
    for task, own in found.items():
        if not own:
            raise ConfigurationError(key, "needs heads with a matrix", f"none in that of task {task!r}")
    return list(found.values())


def layers_of(network: Network, tasks: Sequence[str], regularizer: Regularizer, key: str) -> list[list[nn.Parameter]]:
    """The matrices and filters of a layer group that are each task's own.

    Raises:
        ValueError: There is no such group, or the tasks have not each their own.
    """
    groups, layer = {name: each for name, each in network.layers.items() if not is_head(name)}, regularizer.layer
    if layer not in groups:
        raise ConfigurationError(f"{key}.layer", f"must be among the layer groups {list(groups)}", layer)
    owns = [{id(p) for p in network.sharing.task_parameters(task)} for task in tasks]
    found = [[p for p in groups[layer] if id(p) in own and p.ndim > 1] for own in owns]
    if not found[0] or len({len(each) for each in found}) > 1:
        rule = "must be a layer group with weights that every task has of its own, as under IndependentNetworks"
        raise ConfigurationError(f"{key}.layer", rule, layer)
    return found


def _check_shapes(key: str, regularizer: Regularizer, tasks: Sequence[str], weights: Sequence[nn.Parameter]) -> None:
    """Refuse weights that cannot be stacked or, where that is enough, joined."""
    equal = regularizer.equal_shapes
    shapes = {task: list(weight.shape) for task, weight in zip(tasks, weights, strict=True)}
    if len({tuple(shape[0 if equal else 1 :]) for shape in shapes.values()}) > 1:
        what = "outputs and inputs" if equal else "inputs"
        rule = f"needs tasks whose weights have as many {what}, chosen by `tasks`"
        raise ConfigurationError(key, rule, f"[outputs, inputs] {shapes}")


def _check_one_proximal(proximal: Sequence[Bound]) -> None:
    """Refuse a weight that two of them would map in turn."""
    seen: dict[int, str] = {}
    for each in proximal:
        for weight in each.weights:
            if (other := seen.setdefault(id(weight), each.key)) != each.key:
                raise ConfigurationError(each.key, "must have weights that no other proximal regularizer has", other)


def check_optimizer(key: str, optimizer: Optimizer) -> None:
    """Refuse an optimizer whose step is not known here.

    Raises:
        ValueError: It is neither SGD nor Adam nor AdamW.
    """
    if not isinstance(optimizer, SGD | Adam | AdamW):
        raise ConfigurationError(key, "needs SGD, Adam or AdamW as model.optimizer", type(optimizer).__name__)


def steps_of(optimizer: Optimizer, group: Mapping[str, float], weights: Sequence[nn.Parameter]) -> Tensor:
    """The step [D] that the optimizer takes for each input of weights [outputs, D] along a constant gradient of one.

    Under SGD η, over 1 − momentum where there is one, so that the term is in balance with the losses whatever it is;
    under Adam η over √(mean v̂) + ε, the mean over the weights that it has stepped, at the input: where v̂ is the square
    of a constant gradient g, weights that are zero stay so under a penalty λ‖·‖₂ if ‖g‖₂ ≤ λ, as they should.
    """
    rate, size = group["lr"], weights[0].flatten(1).shape[1]
    if isinstance(optimizer, SGD):
        momentum = group["momentum"]
        step = rate * (1 - group["dampening"]) / (1 - momentum) if momentum else rate
        return weights[0].new_full((size,), step)
    squares = list(_squares(optimizer, group, weights))
    return rate / (torch.cat(squares).mean(dim=0).sqrt() + group["eps"]) if squares else weights[0].new_zeros(size)


def _squares(optimizer: Optimizer, group: Mapping[str, float], weights: Sequence[nn.Parameter]) -> Iterator[Tensor]:
    """v̂ [outputs, D] of the weights that Adam has stepped."""
    for weight in weights:
        if state := optimizer.state.get(weight):
            squares = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
            beta: float = group["betas"][1]  # type: ignore[index]  # a pair
            yield squares.flatten(1) / (1 - beta ** float(state["step"]))
