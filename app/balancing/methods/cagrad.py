"""Conflict-averse gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import CAGradWeighting

from app.balancing.base import Weighting, normalised
from app.balancing.engine.step import Step
from models.errors import ConfigurationError

RESOLUTION = 1e-7  # of √(wᵀΓw), whose square is known to 1e-16


class CAGrad(Weighting):
    """The update within c ‖g₀‖ of the mean gradient g₀ that does most for the task it does least for.

    Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning" (2021), algorithm 1: 1/T + c ‖g₀‖/‖g_w‖ w,
    g_w = Jᵀw, with w in the simplex minimising g₀ᵀg_w + c ‖g₀‖ ‖g_w‖. Solved by Clarabel, through torchjd.

    The authors' code for NYUv2, and Nash-MTL's after it, divide by 1 + c² and multiply by T, as for a sum of losses:
    this update is (1 + c²)/T times theirs.

    Torchjd's own class takes a small g_w for a sign that there is nothing left to do and stops, even where one task's
    gradient is 1e4 times another's. Here g_w counts down to 1e-7 of the gradients, and below that the mean gradient is
    followed, as in the limit of the authors' code. Since c < 1, the update never stops short of a minimum of the mean
    loss.

    Args:
        c: How far from the mean gradient, in its norm: 0 is the mean gradient; the paper has 0.4 on NYUv2 and 0.2 on
            Cityscapes.

    Raises:
        ImportError: cvxpy or clarabel is missing.
        ValueError: c is not in [0, 1).
    """

    def __init__(self, c: float = 0.4) -> None:
        super().__init__()
        if not 0 <= c < 1:
            raise ConfigurationError("model.balancer.c", "must be at least 0 and below 1", c)
        self.rule = CAGradWeighting(c, norm_eps=RESOLUTION)

    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T'], which sum to 1 + c ‖g₀‖/‖g_w‖."""
        weights = self.rule(normalised(gramian)[0])
        return weights if weights.any() else torch.full_like(weights, 1 / len(weights))
