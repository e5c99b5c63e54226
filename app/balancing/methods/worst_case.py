"""Minimax: the worst task counts, at once or in the long run."""

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from models.errors import ConfigurationError


class WorstCase(Scalarizer):
    """max_i L_i of the step: the task with the largest loss has weight 1, the others 0; equal ones share it.

    The objective of Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts" (2020), with tasks for
    groups. Only for losses on comparable scales.
    """

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The largest of the losses [T']."""
        return losses.amax()


class ExponentiatedGradient(Scalarizer):
    """Σ q_i L_i with q_i ∝ q_i e^{η L_i}, updated before it is used: the minimax game, played online.

    Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts" (2020), algorithm 1, with tasks for
    groups. q is uniform at the start and sums to 1 over all tasks, present or not. Only for losses on comparable
    scales.

    Note:
        The state is log q up to a constant, so that an absent task's entry stays as it is while its share of q changes,
        as in the paper, where a step sees one group.

    Args:
        step_size: η, in units of 1/loss: how fast q moves to the tasks with large losses.

    Raises:
        ValueError: The step size is not above 0.
    """

    observes = True
    scores: Tensor

    def __init__(self, step_size: float = 0.01) -> None:
        super().__init__()
        if not step_size > 0:
            raise ConfigurationError("model.balancer.step_size", "must be above 0", step_size)
        self.step_size = step_size

    def start(self, tasks: int) -> None:
        """One log q_i a task."""
        self.register_buffer("scores", torch.zeros(tasks))

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The sum of the losses [T'], weighted by the q that they lead to."""
        return (self._updated(losses.detach(), step).softmax(0)[step.present] * losses).sum()

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """Keep the q that the step used."""
        self.scores.copy_(self._updated(losses, step))

    def _updated(self, losses: Tensor, step: Step) -> Tensor:
        """The scores [T] after losses [T']."""
        scores = self.scores.clone()
        scores[step.present] += (self.step_size * losses).to(scores)
        return scores
