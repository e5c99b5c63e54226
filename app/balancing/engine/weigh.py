"""From the Gramian of a step's gradients to weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from app.balancing.base import Weighting
from app.balancing.engine.seeded import seeded
from app.balancing.engine.step import Step
from app.ranks.collectives import take_from_first

Weigh = Callable[[Tensor, Step, Tensor], Tensor]  # Gramian [T', T'], step, whose type and device → weights [T']


def ones(gramian: Tensor, step: Step, like: Tensor) -> Tensor:
    """Weights [T'] of a sum."""
    return torch.ones_like(like)


def infinite(gramian: Tensor, step: Step, like: Tensor) -> Tensor:
    """Weights [T'] by which a scaler of fp16 skips the step."""
    return torch.full_like(like, torch.inf)


@dataclass
class Held:
    """Weights from an earlier step.

    Attributes:
        held: [T] they.
    """

    held: Tensor

    def __call__(self, gramian: Tensor, step: Step, like: Tensor) -> Tensor:
        """Weights [T']."""
        return self.of(step, like)

    def of(self, step: Step, like: Tensor) -> Tensor:
        """Weights [T'] of the step's tasks, whatever its gradients are."""
        return self.held[step.present].to(like)


@dataclass
class New:
    """Weights that a method finds.

    Attributes:
        method: It.
        held: [T] where they are kept for the steps that come.
        seed: Of what it draws at random, together with the step's number.
    """

    method: Weighting
    held: Tensor
    seed: int

    def __call__(self, gramian: Tensor, step: Step, like: Tensor) -> Tensor:
        """Weights [T'], the same on all ranks. Collective.

        A task whose gradient is zero is left out: its weight is one, which moves nothing. If a gradient is not finite,
        all weights are infinite, so that a scaler of fp16 skips the step, and the method does not get to see it.
        """
        if not gramian.isfinite().all():
            return infinite(gramian, step, like)
        alive = gramian.diagonal() > 0
        weights = torch.ones(len(gramian), dtype=torch.float64)
        if alive.any():
            seen = Step(step.number, step.epoch, step.present[alive])
            with seeded(self.seed, step.number, self.held.device):
                weights[alive] = self.method(gramian[alive][:, alive], seen).to(weights)
        weights = weights.to(like.device)
        take_from_first(weights)
        self.held[step.present[alive]] = weights[alive].to(self.held)
        return weights.to(like)
