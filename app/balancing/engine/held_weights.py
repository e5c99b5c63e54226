"""The weights of an earlier step, in one backward pass for the shared parameters and one for the tasks' own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from typing_extensions import override

from app.balancing.engine.gradients import FeatureCut, accumulate, gradients_of, weighted_sum
from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord
from app.balancing.engine.strategy import Strategy, by_task
from app.balancing.engine.weigh import Held
from app.ranks.gradients import sum_gradients


class HeldWeights(Strategy):
    """Weighs as a gradient method did last, at the cost of a plain sum.

    Args:
        held: The method's weights.
        cut: Where the shared features are, if the method looks at these.
        scale_heads: Whether the weights apply to the tasks' own parameters too.
    """

    def __init__(self, held: Held, cut: FeatureCut | None, scale_heads: bool) -> None:
        self.held, self.cut, self.scale_heads = held, cut, scale_heads

    @override
    def take(
        self, losses: Mapping[int, Tensor], scalars: Tensor | None, micro_batch: MicroBatch, parameters: Parameters
    ) -> None:
        assert scalars is not None
        if not losses:
            return
        step, own = micro_batch.step, parameters.all_own()
        total = weighted_sum(losses, by_task(step, self._weights(scalars, step)))
        shared = gradients_of(total, self.cut.leaves if self.cut else parameters.shared, keep=True)
        if self.cut:
            self.cut.backward(shared)
        else:
            accumulate(parameters.shared, shared)
        heads = total if self.scale_heads else weighted_sum(losses, by_task(step, scalars))
        accumulate(own, gradients_of(heads, own))

    @override
    def write(self, scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters) -> StepRecord:
        sum_gradients([*parameters.shared, *parameters.all_own()])
        return StepRecord(step.present, self._weights(scalars, step))

    def _weights(self, scalars: Tensor, step: Step) -> Tensor:
        """Factors [T'] of the losses in the shared parameters' update."""
        return scalars * self.held.of(step, scalars)
