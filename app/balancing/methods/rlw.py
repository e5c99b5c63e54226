"""Random loss weighting."""

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step


class RLW(Scalarizer):
    """Σ w_i L_i with w = softmax(n), n ~ N(0, 1) anew at every step.

    Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning" (2022), with the
    standard normal distribution. The softmax is over the tasks of the step.
    """

    linear = True

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The randomly weighted sum of the losses [T']."""
        weights = torch.randn(len(losses)).softmax(0)  # drawn on the CPU: the same on every device
        return (weights.to(losses) * losses).sum()
