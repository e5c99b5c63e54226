"""Weights that are fair in the sense of resource allocation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import FairGradWeighting

from app.balancing.base import Weighting
from app.balancing.engine.step import Step
from models.errors import ConfigurationError

TOLERANCE = 1e-8  # of w_i^(1/α) (Γw)_i = 1


class FairGrad(Weighting):
    """w with Γw = w^(−1/α): the update that maximises the α-fair utility of the tasks' rates of improvement.

    Ban & Ji, "Fair Resource Allocation in Multi-Task Learning" (2024), equation 4; α = 1 is Nash-MTL's proportional
    fairness, α → ∞ maximises the slowest rate. The weights are homogeneous of degree −α/(1+α) in Γ.

    Solved by Newton's method to the precision of the Gramian, in units of the weights that each task would have alone:
    at any scale of the losses, and any ratio of gradients for α = 1. Where gradients cancel (a Pareto-stationary point)
    there is no solution, and at ratios beyond 1e10 it may be out of reach for other α: the weights are then those of
    the authors' code, scipy's least squares, through torchjd. They are finite, and where gradients cancel combine them
    to nearly zero.

    Args:
        alpha: α, above 0. The authors' code has 1 by default, and 2 in its runs on QM9.

    Raises:
        ImportError: scipy is missing.
        ValueError: α is not above 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if not alpha > 0:
            raise ConfigurationError("model.balancer.alpha", "must be above 0", alpha)
        self.power = 1 / alpha
        self.nearest = FairGradWeighting(alpha)

    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T'], all positive."""
        alone = gramian.diagonal() ** (-1 / (1 + self.power))
        matrix = alone[:, None] ** self.power * gramian * alone  # w = alone · x:  matrix x = x^(−power)
        solution = self._solution(matrix)
        return alone * (self.nearest(matrix) if solution is None else solution)

    def _solution(self, matrix: Tensor) -> Tensor | None:
        """The x > 0 [T'] with matrix x = x^(−power), by Newton's method in steps that keep it so; None if not found."""
        x = torch.ones(len(matrix), dtype=matrix.dtype)
        for _ in range(50):
            jacobian = matrix + torch.diag(self.power * x ** (-self.power - 1))
            step = torch.linalg.solve_ex(jacobian, x**-self.power - matrix @ x)[0]
            step /= (-step / x / 0.9).max().clamp(min=1)
            x = x + step
            if (step / x).abs().max() < TOLERANCE:
                break
        return x if (x**self.power * (matrix @ x) - 1).abs().max() < TOLERANCE else None
