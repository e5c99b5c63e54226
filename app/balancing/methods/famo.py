"""Fast adaptive multi-task optimization."""

from __future__ import annotations

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import ZERO, floored
from app.balancing.methods.task_adam import TaskAdam
from models.errors import ConfigurationError


class FAMO(Scalarizer):
    """c Σ z_i log(L_i − b_i), z = softmax ξ, c = sg (Σ z_i / (L_i − b_i))⁻¹: every loss falls at about the same rate.

    Liu et al., "FAMO: Fast Adaptive Multitask Optimization" (2023), algorithm 1. The weights of a step sum to 1. After
    the step the losses of the same batch are taken again, which is one more forward pass, and Adam moves ξ along
    Jᵀ(log(L_before − b) − log(L_after − b)) + γ ξ, J the Jacobian of the softmax.

    The softmax is over the tasks of the step; an absent task's ξ and moments stay as they are, without decay.

    Note:
        A task whose loss is at its b_i, or below, has weight 0: it would have all the weight, and stop the others. The
        released code adds 1e-8 to L_i − b_i instead, and clips the shared gradient to norm 1 by default, which here is
        `trainer.gradient_clip_val`. Its defaults for γ vary from 1e-5 to 0.01; its scripts take 1e-3 for NYUv2, QM9 and
        CelebA, and 0.01 for Cityscapes.

    Args:
        lr: Learning rate of ξ.
        weight_decay: γ, the decay of ξ towards equal weights.
        min_losses: Lower bounds b_i of the losses times their tasks' weights, in the order of the tasks; null for
            zeros, and then losses must not be negative.

    Raises:
        ValueError: A rate is out of its range, or there is not one bound a task.
    """

    observes = True
    looks_again = True
    needs_whole_batch = True
    logits: Tensor
    bounds: Tensor

    def __init__(self, lr: float = 0.025, weight_decay: float = 1e-3, min_losses: list[float] | None = None) -> None:
        super().__init__()
        if not lr > 0:
            raise ConfigurationError("model.balancer.lr", "must be above 0", lr)
        if not weight_decay >= 0:
            raise ConfigurationError("model.balancer.weight_decay", "must be at least 0", weight_decay)
        self.lr, self.weight_decay, self.min_losses = lr, weight_decay, min_losses

    def start(self, tasks: int) -> None:
        """One ξ_i a task, and what Adam keeps of it."""
        bounds = [0.0] * tasks if self.min_losses is None else self.min_losses
        if len(bounds) != tasks:
            raise ConfigurationError(
                "model.balancer.min_losses", f"must be one number for each of {tasks} tasks", bounds
            )
        self.register_buffer("logits", torch.zeros(tasks))
        self.register_buffer("bounds", torch.tensor(bounds), persistent=False)  # the configuration has them
        self.adam = TaskAdam(tasks, self.lr, self.weight_decay)

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The weighted sum of the logarithms of the losses [T'] above their bounds."""
        excess = self._excess(losses, step)
        shares = self.logits[step.present].softmax(0) * (excess > ZERO)
        factor = 1 / (shares / excess.detach()).sum().clamp(min=1e-30)
        return factor * (shares * excess.log()).sum()

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """Keep the losses from before the update, for `look_again` only."""
        self._before = self._excess(losses, step).log()

    def look_again(self, losses: Tensor, step: Step) -> None:
        """Raise the logits of the tasks whose losses fell least."""
        fall = self._before - self._excess(losses, step).log()
        logits = self.logits[step.present]
        shares = logits.softmax(0)
        self.logits[step.present] = self.adam(logits, shares * (fall - (shares * fall).sum()), step.present)

    def _excess(self, losses: Tensor, step: Step) -> Tensor:
        """The losses [T'] above their bounds, at least 1e-20."""
        if self.min_losses is None:
            return floored(losses)
        return (losses - self.bounds[step.present]).clamp(min=ZERO)
