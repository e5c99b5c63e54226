"""Gradient Vaccine."""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import GradVacWeighting

from app.balancing.base import Weighting, normalised
from app.balancing.engine.step import Step
from models.errors import ConfigurationError


class GradVac(Weighting):
    """Σ g_i', each task's gradient turned until its cosine with every other reaches what it has been on average.

    Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual
    Models" (2021), algorithm 1, over all shared parameters as one: for each i, over j ≠ i in random order, where the
    cosine φ of g_i' and g_j is below its moving average φ̂_ij,
    g_i' += ‖g_i'‖ (φ̂ √(1−φ²) − φ √(1−φ̂²)) / (‖g_j‖ √(1−φ̂²)) g_j, with the original g_j; then φ̂_ij moves to
    (1−β) φ̂_ij + β φ. With φ̂ = 0 it is PCGrad. An absent task's averages are left alone.

    Computed by torchjd, whose own class cannot load its state. There, 1e-8 of the tasks' mean square norm is added to
    products of norms: tasks whose gradients are smaller by that much count as orthogonal to each other.

    Args:
        beta: β of the moving averages, in [0, 1].

    Raises:
        ValueError: β is not in [0, 1].
    """

    phi: Tensor  # [T, T] φ̂

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ConfigurationError("model.balancer.beta", "must be at least 0 and at most 1", beta)
        self.beta = beta

    def start(self, tasks: int) -> None:
        """The averages of all pairs, zero before any step."""
        self.register_buffer("phi", torch.zeros(tasks, tasks, dtype=torch.float64))

    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T'], at least 1 where no average is negative."""
        pairs = step.present[:, None], step.present
        phi = self.phi[pairs].to(gramian)
        rule = GradVacWeighting(self.beta)
        rule.register_buffer("_phi_t", phi)
        rule._state_key = (len(phi), phi.dtype)
        weights = rule(normalised(gramian)[0])
        self.phi[pairs] = phi.to(self.phi)  # updated in place
        return weights
