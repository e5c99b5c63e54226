"""The geometric mean of the losses."""

from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import ZERO, floored


class GLS(Scalarizer):
    """(Π L_i)^{1/T}, the geometric mean of the losses of the step; a task weighs (Π L_j)^{1/T} / (T L_i).

    Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
    Learning" (2019). Computed from logarithms, so that the product of many losses neither overflows nor vanishes.

    A task whose loss is exactly 0 is left out of the mean, which would be 0 and stop every task; its weight is 0.
    Losses must not be negative.
    """

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The geometric mean of those losses [T'] that are above zero."""
        counted = (losses > ZERO).to(losses)
        return ((floored(losses).log() * counted).sum() / counted.sum().clamp(min=1)).exp()
