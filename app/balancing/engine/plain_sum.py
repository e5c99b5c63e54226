"""One backward pass over the weighted sum of the losses."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from typing_extensions import override

from app.balancing.engine.gradients import backward, weighted_sum
from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord
from app.balancing.engine.strategy import Strategy, by_task
from app.ranks.gradients import sum_gradients


class PlainSum(Strategy):
    """Lets everything follow the scalar: for weights that are known beforehand, without a gradient method."""

    @override
    def take(
        self, losses: Mapping[int, Tensor], scalars: Tensor | None, micro_batch: MicroBatch, parameters: Parameters
    ) -> None:
        assert scalars is not None
        if losses:
            backward(weighted_sum(losses, by_task(micro_batch.step, scalars)))

    @override
    def write(self, scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters) -> StepRecord:
        sum_gradients([*parameters.shared, *parameters.all_own()])
        return StepRecord(step.present, scalars)
