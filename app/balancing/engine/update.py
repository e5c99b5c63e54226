"""One update from T losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchjd.aggregation import Aggregator

from app.balancing.base import Scalarizer, Step, Weighting
from app.balancing.config import Balancer, GradientConfig, check_config
from app.balancing.engine.gradients import Cut, accumulate, backward, derivatives, each_task, gradients_of, weighted_sum
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.step import Balance, MicroBatch, Parameters
from app.balancing.engine.task_gradients import TaskGradients
from app.balancing.methods.fixed import FixedWeights
from app.balancing.methods.torchjd_weighting import from_torchjd, restricted
from app.ranks.gradients import sum_gradients
from models.errors import ConfigurationError


class Update(nn.Module):
    """Turns the losses of an optimizer step into gradients, micro-batch by micro-batch.

    Args:
        balancer: A loss weighting, or a gradient method.
        config: What a gradient method looks at.
        tasks: T.
        features: The module whose outputs are the shared features.

    Raises:
        ValueError: The balancer does not fit the configuration or the number of tasks.

    Attributes:
        seed: Of what methods draw at random, together with the step's number: there is no generator to save.
        shows: What of a step is worth a curve: "weight" unless all are fixed, "gradient_norm" and "cosine" of a
            gradient method.
        overflows: Whether gradients may overflow and their step be skipped, as in fp16.
        balance: What the last step showed.
    """

    held: Tensor

    def __init__(self, balancer: Balancer, config: GradientConfig, tasks: int, features: nn.Module) -> None:
        super().__init__()
        check_config(balancer, config)
        self.config = config
        self.scalarizer, self.method = _parts(balancer, config, tasks)
        self.cut = Cut(features) if self.method is not None and config.level == "features" else None
        self.register_buffer("held", torch.full((tasks,), torch.nan, dtype=torch.float64))  # weights, NaN before any
        self.seed, self.overflows = 0, False
        self.shows = [] if isinstance(balancer, FixedWeights) else ["weight"]
        self.shows += [] if self.method is None else ["gradient_norm", "cosine"]
        self.balance = Balance(torch.empty(0, dtype=torch.long), None)
        self._observed: Step | None = None
        self._told = False
        self._gradients = TaskGradients()
        self._norms: Jacobian | None = None

    def backward(
        self, losses: Mapping[int, Tensor], scale: Tensor, micro_batch: MicroBatch, parameters: Parameters
    ) -> None:
        """Take a micro-batch's gradients; after the step's last one, every `.grad` holds the update. Collective.

        Args:
            losses: Task → this micro-batch's part of its loss; of those with a labelled row here.
            scale: Factor of the losses while their gradients are taken, as in fp16. Every `.grad` has it.
            micro_batch: Where it stands.
            parameters: What to write to.
        """
        step = micro_batch.step
        last = micro_batch.losses is not None
        losses = {task: scale * loss for task, loss in losses.items() if loss.requires_grad}
        if self.scalarizer.wants_norms:
            self._take_norms(losses, step, parameters)
        known = self.scalarizer.linear or micro_batch.of == 1
        scalars = self._scalar_weights(micro_batch, scale) if known or last else None
        due = self._weighs(parameters) and self._due(step)
        if not known or (due and self.cut is None):
            self._gradients.take(losses, micro_batch, parameters, as_rows=isinstance(self.method, Aggregator))
            if last:
                assert scalars is not None
                self._write_rows(scalars, scale, step, parameters)
        else:
            assert scalars is not None
            (self._backward_features if due else self._backward_sum)(losses, scalars, scale, step, parameters)
            if last and dist.is_initialized():
                sum_gradients([*parameters.shared, *parameters.all_own()])
        if micro_batch.losses is not None:
            self._observe(micro_batch.losses, step, self._gradient_norms(scale), parameters)

    def look_again(self, losses: Tensor) -> None:
        """Show the scalarizer the losses [T] of the step's batch after the optimizer has stepped."""
        if self._observed is not None and losses.isfinite().all():
            self.scalarizer.look_again(losses[self._observed.present], self._observed)

    def _observe(self, losses: Tensor, step: Step, norms: Tensor | None, parameters: Parameters) -> None:
        """Show the step to a scalarizer that looks, unless it overflowed: a scaler of fp16 then skips it."""
        if type(self.scalarizer).observe is Scalarizer.observe:
            return
        finite = bool(losses.isfinite().all() and (norms is None or norms.isfinite().all()))
        if self.overflows:
            both = [*parameters.shared, *parameters.all_own()]
            finite = finite and all(bool(p.grad.isfinite().all()) for p in both if p.grad is not None)
        self._observed = step if finite else None
        if finite:
            self.scalarizer.observe(losses, step, norms)

    def _scalar_weights(self, micro_batch: MicroBatch, scale: Tensor) -> Tensor:
        """∂scalar/∂losses [T']; in the step's last micro-batch, also writes the scalarizer's parameters' gradients.

        A loss that is not finite makes every weight NaN, so that a scaler of fp16 skips the step.
        """
        losses = micro_batch.losses
        at = scale.new_ones(len(micro_batch.step.present)) if losses is None else losses
        at = at.clone().requires_grad_()
        own = [parameter for parameter in self.scalarizer.parameters() if parameter.requires_grad]
        with self._seeded(micro_batch.step), torch.enable_grad():
            weights, gradients = derivatives(self.scalarizer(at, micro_batch.step), at, own)
        if losses is not None:
            accumulate(own, tuple(None if gradient is None else scale * gradient for gradient in gradients))
        return torch.where(at.isfinite().all(), weights, torch.nan)

    # Where the weights are known beforehand

    def _backward_sum(
        self, losses: Mapping[int, Tensor], scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters
    ) -> None:
        """One backward pass over the weighted sum; under held weights of a gradient method, with its two parts."""
        self.balance = Balance(step.present, scalars)
        plain = _by_task(step, scalars)
        if not self._weighs(parameters):
            if losses:
                backward(weighted_sum(losses, plain))
            return
        weights = scalars * self.held[step.present].to(scalars)
        self.balance = Balance(step.present, weights)
        if not losses:
            return
        total = weighted_sum(losses, _by_task(step, weights))
        shared = gradients_of(total, self.cut.leaves if self.cut else parameters.shared, keep=True)
        if self.cut:
            self.cut.backward(shared)
        else:
            accumulate(parameters.shared, shared)
        own = parameters.all_own()
        heads = total if self.config.scale_heads else weighted_sum(losses, plain)
        accumulate(own, gradients_of(heads, own))

    # Where the tasks' gradients are wanted one by one

    def _write_rows(self, scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters) -> None:
        """Write the combined rows into the shared parameters' `.grad`, and sum the tasks' own over the ranks."""
        gramian = _rescaled(self._gradients.gramian(), scalars / scale)
        weighs = self._weighs(parameters)
        if weighs and not self._due(step):
            weights = self.held[step.present].to(scalars)
            self._gradients.combine(scalars * weights)
            self.balance = Balance(step.present, scalars * weights, gramian)
        elif isinstance(self.method, Aggregator) and weighs and gramian.isfinite().all():
            self._aggregate(self.method, gramian, scalars, step)
            self.balance, weights = Balance(step.present, None, gramian), torch.ones_like(scalars)
        else:
            weights = self._weights(gramian, step, scalars) if weighs else torch.ones_like(scalars)
            self._gradients.combine(scalars * weights)
            self.balance = Balance(step.present, scalars * weights, gramian)
        self._gradients.clear()
        self._scale_own(scalars, weights, step, parameters)
        if dist.is_initialized():
            sum_gradients(parameters.all_own())

    def _aggregate(self, method: Aggregator, gramian: Tensor, scalars: Tensor, step: Step) -> None:
        """Write what an aggregator makes of the rows that are not zero."""
        jacobian, alive = self._gradients.jacobian, gramian.diagonal() > 0
        with self._seeded(step), restricted(method, step.present[alive], jacobian.rows):
            jacobian.write(method(scalars[alive, None] * jacobian.rows[alive]))

    def _backward_features(
        self, losses: Mapping[int, Tensor], scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters
    ) -> None:
        """Weigh by the gradients of the shared features, whose rows are never those of another rank."""
        assert self.cut is not None
        rows = Jacobian(self.cut.leaves, len(step.present))
        present = step.present.tolist()
        for task, gradients in each_task(losses, rows.inputs, parameters.own):
            rows.take(present.index(task), gradients)
        gramian = rows.gramian()
        if dist.is_initialized():
            gramian = _sum_over_ranks(gramian, scale.device)
        gramian = _rescaled(gramian, scalars / scale)
        weights = self._weights(gramian, step, scalars)
        self.balance = Balance(step.present, scalars * weights, gramian)
        rows.combine(scalars * weights)
        self.cut.backward([leaf.grad for leaf in self.cut.leaves])
        self._scale_own(scalars, weights, step, parameters)

    def _weights(self, gramian: Tensor, step: Step, like: Tensor) -> Tensor:
        """The method's weights [T'], the same on all ranks, and held from here on.

        A task whose gradient is zero is left out: its weight is one, which moves nothing. If a gradient is not finite,
        all weights are infinite, so that a scaler of fp16 skips the step, and the method does not get to see it.
        """
        if not gramian.isfinite().all():
            return torch.full_like(like, torch.inf)
        assert isinstance(self.method, Weighting)
        alive = gramian.diagonal() > 0
        weights = torch.ones(len(gramian), dtype=torch.float64)
        if alive.any():
            seen = Step(step.number, step.epoch, step.present[alive])
            with self._seeded(step):
                weights[alive] = self.method(gramian[alive][:, alive], seen).to(weights)
        weights = weights.to(like.device)
        if dist.is_initialized():
            dist.broadcast(weights, src=0)
        self.held[step.present[alive]] = weights[alive].to(self.held)
        return weights.to(like)

    def _scale_own(self, scalars: Tensor, weights: Tensor, step: Step, parameters: Parameters) -> None:
        """Let the weights apply to the tasks' own gradients: the losses', and the method's if that is wanted."""
        factors = scalars * weights if self.config.scale_heads else scalars
        for task, factor in _by_task(step, factors).items():
            for parameter in parameters.own[task]:
                if parameter.grad is not None:
                    parameter.grad *= factor

    def _weighs(self, parameters: Parameters) -> bool:
        """Whether a gradient method has anything to weigh; a frozen trunk leaves the plain sum."""
        if self.method is None:
            return False
        if not parameters.shared and not self._told:
            self._told = True
            warnings.warn("model.balancer: no shared parameter is trained, so the losses are summed", stacklevel=2)
        return bool(parameters.shared)

    def _due(self, step: Step) -> bool:
        """Whether the step is one in which new weights are found."""
        every = self.config.every
        return step.number % every == 0 or bool(self.held[step.present].isnan().any())

    def _take_norms(self, losses: Mapping[int, Tensor], step: Step, parameters: Parameters) -> None:
        """Add a micro-batch's gradients of the last shared layer.

        Raises:
            ValueError: A task does not reach it.
        """
        layer = [p for p in parameters.shared if p.ndim > 1][-1:]
        if not layer:
            self._norms = None
            return
        if self._norms is None or not self._norms.is_for(layer, len(step.present)):
            self._norms = Jacobian(layer, len(step.present))
        present = step.present.tolist()
        for task, loss in losses.items():
            (gradient,) = gradients_of(loss, layer, keep=True)
            if gradient is None:
                raise ConfigurationError(
                    "model.balancer",
                    f"compares tasks at the last shared weight, {tuple(layer[0].shape)}, which task "
                    f"number {task} (from 0) does not reach: its head reads a lower stage, so it needs "
                    "another balancer",
                )
            self._norms.take(present.index(task), (gradient,))

    def _gradient_norms(self, scale: Tensor) -> Tensor | None:
        """[T'] norms of the gradients of the last shared layer over the step, if they were taken."""
        if self._norms is None:
            return None
        if dist.is_initialized():
            self._norms.sum_over_ranks()
        norms = self._norms.gramian().diagonal().sqrt().to(scale) / scale
        self._norms.clear()
        return norms

    @contextmanager
    def _seeded(self, step: Step) -> Iterator[None]:
        """Draw at random what every rank draws in this step, also after a resume."""
        seed = int(np.random.SeedSequence((self.seed, step.number)).generate_state(1)[0])
        generators = [torch.default_generator]
        if self.held.is_cuda:
            generators.append(torch.cuda.default_generators[self.held.device.index])
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def _parts(balancer: Balancer, config: GradientConfig, tasks: int) -> tuple[Scalarizer, Weighting | Aggregator | None]:
    """The loss weighting and the gradient method, if there is one, for T tasks."""
    scalarizer = balancer if isinstance(balancer, Scalarizer) else config.loss_transform or FixedWeights()
    scalarizer.start(tasks)
    if isinstance(balancer, Scalarizer):
        return scalarizer, None
    method = from_torchjd(balancer, tasks) if isinstance(balancer, Aggregator) else balancer
    if isinstance(method, Weighting):
        method.start(tasks)
    return scalarizer, method


def _sum_over_ranks(gramian: Tensor, device: torch.device) -> Tensor:
    """The Gramian of the rows of all ranks together. Collective."""
    total = gramian.to(device)
    dist.all_reduce(total)
    return total.cpu()


def _by_task(step: Step, values: Tensor) -> dict[int, Tensor]:
    """Task → its item of `values` [T']."""
    return dict(zip(step.present.tolist(), values, strict=True))


def _rescaled(gramian: Tensor, factors: Tensor) -> Tensor:
    """The Gramian [T', T'] of rows that are multiplied by `factors` [T']."""
    by = factors.to(gramian)
    return by[:, None] * gramian * by
