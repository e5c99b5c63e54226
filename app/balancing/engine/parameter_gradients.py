"""The tasks' gradients of the shared parameters one by one, and their weighted sum or what a rule makes of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from typing_extensions import override

from app.balancing.base import JacobianRule
from app.balancing.engine.seeded import seeded
from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord
from app.balancing.engine.strategy import Strategy, rescaled, scale_own
from app.balancing.engine.task_gradients import TaskGradients
from app.balancing.engine.weigh import Weigh
from app.ranks.gradients import sum_gradients


class ParameterGradients(Strategy):
    """Weighs the gradients by their Gramian, or by weights that only the whole step's losses tell.

    Args:
        gradients: What takes them.
        weigh: Gives the weights.
        scale_heads: Whether the weights apply to the tasks' own parameters too.
    """

    as_jacobian = False  # whether the Jacobian itself is needed, and not its Gramian alone

    def __init__(self, gradients: TaskGradients, weigh: Weigh, scale_heads: bool) -> None:
        self.gradients, self.weigh, self.scale_heads = gradients, weigh, scale_heads

    @override
    def take(
        self, losses: Mapping[int, Tensor], scalars: Tensor | None, micro_batch: MicroBatch, parameters: Parameters
    ) -> None:
        self.gradients.take(losses, micro_batch, parameters, self.as_jacobian)

    @override
    def write(self, scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters) -> StepRecord:
        gramian = rescaled(self.gradients.gramian(), scalars / scale)
        weights = self._combine(gramian, scalars, step)
        self.gradients.clear()
        scale_own(step, scalars if weights is None or not self.scale_heads else scalars * weights, parameters)
        sum_gradients(parameters.all_own())
        return StepRecord(step.present, None if weights is None else scalars * weights, gramian)

    def _combine(self, gramian: Tensor, scalars: Tensor, step: Step) -> Tensor | None:
        """Write the shared parameters' `.grad`, and give the weights [T'] if there are any."""
        weights = self.weigh(gramian, step, scalars)
        self.gradients.combine(scalars * weights)
        return weights


class RuledGradients(ParameterGradients):
    """Writes what a rule without weights makes of the gradients that are not zero.

    Args:
        gradients: What takes them.
        weigh: Gives the weights where a gradient is not finite.
        rule: The rule.
        seed: Of what it draws at random, together with the step's number.
    """

    as_jacobian = True

    def __init__(self, gradients: TaskGradients, weigh: Weigh, rule: JacobianRule, seed: int) -> None:
        super().__init__(gradients, weigh, scale_heads=False)
        self.rule, self.seed = rule, seed

    @override
    def _combine(self, gramian: Tensor, scalars: Tensor, step: Step) -> Tensor | None:
        if not gramian.isfinite().all():
            return super()._combine(gramian, scalars, step)
        jacobian, alive = self.gradients.jacobian, gramian.diagonal() > 0
        with seeded(self.seed, step.number, scalars.device):
            seen = Step(step.number, step.epoch, step.present[alive])
            jacobian.write(self.rule(scalars[alive, None] * jacobian.gradients[alive], seen))
        return None
