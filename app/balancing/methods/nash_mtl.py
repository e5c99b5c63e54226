"""Weights that the tasks would agree on as bargainers."""

from __future__ import annotations

from torch import Tensor

from app.balancing.base import Weighting
from app.balancing.engine.step import Step
from app.balancing.methods.fairgrad import FairGrad
from models.errors import ConfigurationError


class NashMTL(Weighting):
    """α with Γα = 1/α: the Nash bargaining solution for the tasks' shares of the update.

    Navon et al., "Multi-Task Learning as a Bargaining Game" (2022), equation 3. The update is invariant to the scale of
    each task's loss, and its norm is √T whatever the losses: `max_norm` 1, as in the authors' code, makes it a unit
    step. Their code weighs the heads too: `model.gradients.scale_heads`.

    Solved as FairGrad with α = 1, which is the same equation: to the precision of the Gramian, and without a state. The
    authors' sequence of convex programs, and torchjd's class after it, leaves up to 1e-2 of the equation, fails on many
    a Gramian that has a solution, and keeps its last weights then without a word. Where gradients cancel (a
    Pareto-stationary point) there is no solution, and the weights combine them to nearly zero; to keep the last weights
    there, as the authors' code does, leads along the front to one of its ends.

    Args:
        max_norm: Longest update ‖Jᵀα‖, at the losses' true scale; 0 for no limit.

    Raises:
        ImportError: scipy is missing.
        ValueError: `max_norm` is negative.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        super().__init__()
        if not max_norm >= 0:
            raise ConfigurationError("model.balancer.max_norm", "must be at least 0", max_norm)
        self.max_norm = max_norm
        self.solver = FairGrad(alpha=1.0)

    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T'], all positive."""
        weights: Tensor = self.solver(gramian, step)
        norm = (weights @ gramian @ weights).clamp(min=0).sqrt()
        return weights * (self.max_norm / norm) if 0 < self.max_norm < norm else weights
