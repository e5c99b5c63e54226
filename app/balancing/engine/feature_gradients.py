"""The tasks' gradients of the shared features, through the heads alone, and one pass of their sum through the trunk."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from typing_extensions import override

from app.balancing.engine.gradients import FeatureCut, each_task
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord
from app.balancing.engine.strategy import Strategy, rescaled, scale_own
from app.balancing.engine.weigh import Weigh
from app.ranks.collectives import sum_over_ranks
from app.ranks.gradients import sum_gradients


class FeatureGradients(Strategy):
    """Weighs by the gradients of the shared features, of which every rank has its own.

    It takes one micro-batch a step: the whole batch's features have to be there when the weights are found.

    Args:
        cut: Where the features are.
        weigh: Gives the weights.
        scale_heads: Whether the weights apply to the tasks' own parameters too.
    """

    def __init__(self, cut: FeatureCut, weigh: Weigh, scale_heads: bool) -> None:
        self.cut, self.weigh, self.scale_heads = cut, weigh, scale_heads

    @override
    def take(
        self, losses: Mapping[int, Tensor], scalars: Tensor | None, micro_batch: MicroBatch, parameters: Parameters
    ) -> None:
        present = micro_batch.step.present.tolist()
        self.jacobian = Jacobian(self.cut.leaves, len(present))
        for task, gradients in each_task(losses, self.jacobian.inputs, parameters.own):
            self.jacobian.take(present.index(task), gradients)

    @override
    def write(self, scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters) -> StepRecord:
        gramian = self.jacobian.gramian().to(scale.device)
        sum_over_ranks(gramian)
        gramian = rescaled(gramian.cpu(), scalars / scale)
        weights = self.weigh(gramian, step, scalars)
        self.jacobian.combine(scalars * weights)
        self.cut.backward([leaf.grad for leaf in self.cut.leaves])
        scale_own(step, scalars * weights if self.scale_heads else scalars, parameters)
        sum_gradients([*parameters.shared, *parameters.all_own()])
        return StepRecord(step.present, scalars * weights, gramian)
