"""Losses on a logarithmic scale."""

from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import floored


class LogLosses(Scalarizer):
    """Σ log L_i: a task weighs 1/L_i, so that the units of its loss do not matter.

    The scale-invariant baseline ("SI") of Navon et al., "Multi-Task Learning as a Bargaining Game" (2022), and the loss
    transform of Lin et al., "Dual-Balancing for Multi-Task Learning" (2023).

    A task whose loss is exactly 0 has weight 0. Losses must not be negative.
    """

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The sum of the logarithms of the losses [T']."""
        return floored(losses).log().sum()
