"""Gradient normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import ZERO, floored
from app.balancing.methods.task_adam import TaskAdam
from models.errors import ConfigurationError

LEAST = 1e-4  # weight; a negative one would raise its task's loss
ROUNDING = 1e-6  # a relative gap up to here has no sign


class GradNorm(Scalarizer):
    """Σ w_i L_i, with w learned so that the tasks' gradients at the last shared layer are as large as they should be.

    Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks" (2018),
    equation 2 and algorithm 1. With G_i = w_i ‖∇_W L_i‖, its mean Ḡ, and r_i = (L_i / L_i(0)) / mean(L / L(0)), every
    step ends with one of Adam on w along the gradient of Σ |G_i − sg(Ḡ r_i^α)|, after which Σ w = T again. It costs
    every task's gradient at that one layer.

    Means are over the tasks of the step. Their weights then share what they had in sum before, so that an absent task's
    weight and moments stay as they are and Σ w = T over all tasks. One task alone keeps its weight; without a shared
    layer that is trained all do. Losses must not be negative, and every task must reach the last shared weight.

    Note:
        The update rule is our choice, and the gradient is divided by Ḡ, so that Adam's small constant does not see the
        losses' scale. Weights below 1e-4 are raised to it before they are rescaled; the paper has no bound. L_i(0) is
        the task's first loss above 0. LibMTL learns a softmax's logits instead, and starts in the second epoch.

    Args:
        alpha: α, the restoring force: how much more a task that is behind should pull. 0 makes all gradients equally
            large; the paper takes 1.5 for NYUv2 and 0.12 for its toy problem.
        lr: Learning rate of w.

    Raises:
        ValueError: α is negative, or the rate not above 0.
    """

    linear = True
    observes = True
    wants_norms = True
    weights: Tensor
    first_losses: Tensor  # [T], 0 before the task was seen

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ConfigurationError("model.balancer.alpha", "must be at least 0", alpha)
        if not lr > 0:
            raise ConfigurationError("model.balancer.lr", "must be above 0", lr)
        self.alpha, self.lr = alpha, lr

    def start(self, tasks: int) -> None:
        """A weight and a first loss a task, and what Adam keeps of the weight."""
        self.register_buffer("weights", torch.ones(tasks))
        self.register_buffer("first_losses", torch.zeros(tasks))
        self.adam = TaskAdam(tasks, self.lr)

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The weighted sum of the losses [T']."""
        return (self.weights[step.present] * losses).sum()

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """Move the weights, given the norms [T'] of the unweighted losses' gradients."""
        if norms is None:
            return
        losses = floored(losses).to(self.weights)
        norms = norms.to(self.weights)
        firsts = self.first_losses[step.present]
        firsts = torch.where(firsts > 0, firsts, losses * (losses > ZERO))
        self.first_losses[step.present] = firsts
        weights = self.weights[step.present]
        moved = self.adam(weights, self._gradient(weights, norms, losses / firsts.clamp(min=ZERO)), step.present)
        moved = moved.clamp(min=LEAST)
        self.weights[step.present] = moved * (weights.sum() / moved.sum())

    def _gradient(self, weights: Tensor, norms: Tensor, remaining: Tensor) -> Tensor:
        """∂/∂w of Σ |G_i − sg(Ḡ r_i^α)| / sg(Ḡ), [T'], where `remaining` [T'] are the losses over the first ones."""
        sizes = weights * norms
        mean = sizes.mean().clamp(min=ZERO)
        gaps = sizes / mean - (remaining / remaining.mean()) ** self.alpha
        return gaps.sign() * (gaps.abs() > ROUNDING) * norms / mean
