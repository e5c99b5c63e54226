"""The rules of torchjd.aggregation, made fit for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torchjd import Stateful
from torchjd.aggregation import Aggregator, ConstantWeighting, GradDrop, GramianWeightedAggregator
from typing_extensions import override

from app.balancing.base import JacobianRule, Weighting, normalised
from app.balancing.engine.step import Step
from models.errors import ConfigurationError

OURS = ("GradVac", "NashMTL")  # with state that is saved


class TorchJDWeighting(Weighting):
    """Weights by a torchjd aggregator that needs the Gramian alone, such as PCGrad, AlignedMTL, IMTLG or UPGrad.

    All of them are homogeneous of degree 0 in the Gramian, which they get divided by its mean diagonal, so that the
    scale of the losses never meets their absolute tolerances. What else to know of them (T' tasks in the step):

    - one task: weight 1. Tasks with the same gradient share alike.
    - AlignedMTL averages, as by preferences of 1/T: 1/T of its authors' code, which sums.
    - gradients that cancel (g and −g): each combines them to zero, or to what rounding leaves. For g and −2g this is
      not so of IMTLG (−5g) and AlignedMTL (−g/2), whose weights may be negative.
    - one gradient far larger than another: PCGrad follows the projected larger. UPGrad and DualProj add 1e-4 of the
      Gramian's trace to its diagonal, so a conflict with a gradient of a hundredth of the largest is resolved by half,
      and with a smaller one hardly. (`projector: {class_path: torchjd.linalg.QuadprogProjector, init_args: {reg_eps:
      1e-12}}` lowers that to a millionth.) From a ratio of 1e8 on, the limit of float64, IMTLG and AlignedMTL take the
      smaller one for rounding noise.
    """

    def __init__(self, aggregator: GramianWeightedAggregator) -> None:
        super().__init__()
        self.aggregator = aggregator

    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T']."""
        with restricted(self.aggregator, step.present, gramian):
            weights: Tensor = self.aggregator.gramian_weighting(normalised(gramian)[0])
        return weights


class TorchJDRule(JacobianRule):
    """A torchjd aggregator that needs the gradients themselves, such as GradDrop or ConFIG."""

    def __init__(self, aggregator: Aggregator) -> None:
        super().__init__()
        self.aggregator = aggregator

    @override
    def forward(self, jacobian: Tensor, step: Step) -> Tensor:
        with restricted(self.aggregator, step.present, jacobian):
            update: Tensor = self.aggregator(jacobian)
        return update


def from_torchjd(aggregator: Aggregator, tasks: int) -> TorchJDWeighting | TorchJDRule:
    """What stands for an aggregator in training: a weighting, or a rule where it needs the Jacobian.

    Not offered are the rules that torchjd has as weightings only. SDMGrad and MoDo need products of gradients from two
    independent mini-batches, and apply the weights to a third: a step here has one batch, whose Gramian breaks their
    guarantee. CR-MOGM averages another rule's weights over time, in a state that torchjd does not save.

    Args:
        aggregator: What the user gave.
        tasks: T.

    Raises:
        ValueError: It keeps a state between steps, has a preference or leak for another number of tasks, or needs more
            tasks. (Krum and TrimmedMean need them in every step.)
    """
    if any(isinstance(module, Stateful) for module in aggregator.modules()):
        name = type(aggregator).__name__
        instead = f" (app.balancing.{name} does)" if name in OURS else ""
        raise ConfigurationError("model.balancer", "must keep its state in checkpoints", f"torchjd's {name}{instead}")
    for module, attribute in _by_task(aggregator):
        if (found := len(getattr(module, attribute))) != tasks:
            raise ConfigurationError("model.balancer", f"must have a value for each of the {tasks} tasks", found)
    trial, jacobian = deepcopy(aggregator), torch.eye(tasks)
    try:
        with torch.random.fork_rng(devices=[]), restricted(trial, torch.arange(tasks), jacobian):
            trial(jacobian)
    except ValueError as error:
        raise ConfigurationError("model.balancer", str(error)) from error
    if isinstance(aggregator, GramianWeightedAggregator):
        return TorchJDWeighting(aggregator)
    return TorchJDRule(aggregator)


@contextmanager
def restricted(aggregator: Aggregator, present: Tensor, like: Tensor) -> Iterator[None]:
    """Meanwhile preferences, leaks and constant weights are those of the tasks `present` [T'], in `like`'s type.

    What a preference sums to is then less: none of the rules minds.
    """
    given = [(module, name, getattr(module, name)) for module, name in _by_task(aggregator)]
    for module, name, values in given:
        setattr(module, name, values[present].to(like))
    try:
        yield
    finally:
        for module, name, values in given:
            setattr(module, name, values)


def _by_task(aggregator: Aggregator) -> Iterator[tuple[nn.Module, str]]:
    """Where an aggregator has a value a task. Torchjd makes every preference vector a `ConstantWeighting`."""
    for module in aggregator.modules():
        if isinstance(module, ConstantWeighting):
            yield module, "weights"
        elif isinstance(module, GradDrop) and module.leak is not None:
            yield module, "leak"
