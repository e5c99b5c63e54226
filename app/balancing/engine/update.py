"""One update from T losses."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator

from app.balancing.base import JacobianRule, Scalarizer, Weighting
from app.balancing.config import Balancer, GradientConfig, check_config
from app.balancing.engine.feature_gradients import FeatureGradients
from app.balancing.engine.gradients import FeatureCut, accumulate, derivatives
from app.balancing.engine.held_weights import HeldWeights
from app.balancing.engine.parameter_gradients import ParameterGradients, RuledGradients
from app.balancing.engine.plain_sum import PlainSum
from app.balancing.engine.seeded import seeded
from app.balancing.engine.shared_norms import SharedNorms
from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord
from app.balancing.engine.strategy import Strategy
from app.balancing.engine.task_gradients import TaskGradients
from app.balancing.engine.weigh import Held, New, Weigh, infinite, ones
from app.balancing.methods.fixed import FixedWeights
from app.balancing.methods.torchjd_weighting import from_torchjd


class Update(nn.Module):
    """Turns the losses of an optimizer step into gradients, micro-batch by micro-batch.

    Args:
        balancer: A loss weighting, or a gradient method.
        config: What a gradient method looks at.
        tasks: T.
        features: The module whose outputs are the shared features.

    Raises:
        ConfigurationError: The balancer does not fit the configuration or the number of tasks.

    Attributes:
        seed: Of what methods draw at random, together with the step's number: there is no generator to save.
        shows: What of a step is worth a curve: "weight" unless all are fixed, "gradient_norm" and "cosine" of a
            gradient method.
        overflows: Whether gradients may overflow and their step be skipped, as in fp16.
        record: What the last step showed.
    """

    held: Tensor

    def __init__(self, balancer: Balancer, config: GradientConfig, tasks: int, features: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.scalarizer, self.method = _started(balancer, config, tasks)
        self.cut = FeatureCut(features) if self.method is not None and config.level == "features" else None
        self.register_buffer("held", torch.full((tasks,), torch.nan, dtype=torch.float64))  # weights, NaN before any
        self.seed, self.overflows = 0, False
        self.shows = ["weight"] if self.method is not None or not self.scalarizer.constant else []
        self.shows += [] if self.method is None else ["gradient_norm", "cosine"]
        self.record = StepRecord(torch.empty(0, dtype=torch.long), None)
        self._observed: Step | None = None
        self._told = False
        self._gradients = TaskGradients()
        self._norms = SharedNorms()

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
        step, of_step = micro_batch.step, micro_batch.losses
        losses = {task: scale * loss for task, loss in losses.items() if loss.requires_grad}
        if self.scalarizer.wants_norms:
            self._norms.take(losses, step, parameters)
        known = self.scalarizer.linear or micro_batch.of == 1
        scalars = self._scalar_weights(micro_batch, scale) if known or of_step is not None else None
        strategy = self._strategy(known, step, parameters)
        strategy.take(losses, scalars, micro_batch, parameters)
        if of_step is not None:
            assert scalars is not None
            self.record = strategy.write(scalars, scale, step, parameters)
            self._observe(of_step, step, self._norms.norms(scale), parameters)

    def look_again(self, losses: Tensor) -> None:
        """Show the scalarizer the losses [T] of the step's batch after the optimizer has stepped."""
        if self._observed is not None and losses.isfinite().all():
            self.scalarizer.look_again(losses[self._observed.present], self._observed)

    def _strategy(self, known: bool, step: Step, parameters: Parameters) -> Strategy:
        """The same in all micro-batches of a step; `known` says whether ∂scalar/∂losses is by then."""
        heads, method = self.config.scale_heads, self.method if self._weighs(parameters) else None
        due = method is not None and self._due(step)
        if known and not due:
            return PlainSum() if method is None else HeldWeights(Held(self.held), self.cut, heads)
        if due and isinstance(method, JacobianRule):
            return RuledGradients(self._gradients, infinite, method, self.seed)
        weigh: Weigh = ones if method is None else Held(self.held)
        if due and isinstance(method, Weighting):
            weigh = New(method, self.held, self.seed)
        if self.cut:
            return FeatureGradients(self.cut, weigh, heads)
        return ParameterGradients(self._gradients, weigh, heads)

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

    def _scalar_weights(self, micro_batch: MicroBatch, scale: Tensor) -> Tensor:
        """∂scalar/∂losses [T']; in the step's last micro-batch, also writes the scalarizer's parameters' gradients.

        A loss that is not finite makes every weight NaN, so that a scaler of fp16 skips the step.
        """
        losses, step = micro_batch.losses, micro_batch.step
        at = scale.new_ones(len(step.present)) if losses is None else losses
        at = at.clone().requires_grad_()
        own = [parameter for parameter in self.scalarizer.parameters() if parameter.requires_grad]
        with seeded(self.seed, step.number, self.held.device), torch.enable_grad():
            weights, gradients = derivatives(self.scalarizer(at, step), at, own)
        if losses is not None:
            accumulate(own, tuple(None if gradient is None else scale * gradient for gradient in gradients))
        return torch.where(at.isfinite().all(), weights, torch.nan)

    def _observe(self, losses: Tensor, step: Step, norms: Tensor | None, parameters: Parameters) -> None:
        """Show the step to a scalarizer that looks, unless it overflowed: a scaler of fp16 then skips it."""
        if not self.scalarizer.observes:
            return
        finite = bool(losses.isfinite().all() and (norms is None or norms.isfinite().all()))
        if self.overflows:
            both = [*parameters.shared, *parameters.all_own()]
            finite = finite and all(bool(p.grad.isfinite().all()) for p in both if p.grad is not None)
        self._observed = step if finite else None
        if finite:
            self.scalarizer.observe(losses, step, norms)


def _started(
    balancer: Balancer, config: GradientConfig, tasks: int
) -> tuple[Scalarizer, Weighting | JacobianRule | None]:
    """The loss weighting and the gradient method, if there is one, for T tasks."""
    method = from_torchjd(balancer, tasks) if isinstance(balancer, Aggregator) else balancer
    check_config(method, type(balancer).__name__, config)
    method.start(tasks)
    if isinstance(method, Scalarizer):
        return method, None
    scalarizer = config.loss_transform or FixedWeights()
    scalarizer.start(tasks)
    return scalarizer, method
