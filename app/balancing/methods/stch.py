"""Smooth Tchebycheff scalarization."""

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.epoch_means import EpochMeans
from app.balancing.methods.near_zero import floored
from models.errors import ConfigurationError


class STCH(Scalarizer):
    """T μ log Σ exp(log(L_i / n_i) / μ): a smooth maximum of the losses, each relative to its own after a warm-up.

    Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization" (2024), in the form of the authors'
    released code for deep networks: Σ log L_i in the warm-up, n_i the mean loss in its last epoch, logarithms of
    relative losses after it, and T times the sum. T counts the tasks of the step.

    A task that is absent from the warm-up's last epoch has n_i from the last one that it was in; a task that is first
    seen after the warm-up, from its first step. A task whose loss is exactly 0 has weight 0. Losses must not be
    negative.

    Args:
        mu: μ, the smoothness; towards 0 only the largest relative loss counts.
        warmup_epochs: Epochs of Σ log L_i before. The released code's `STCH_warmup_epoch` 4 is the index of the last of
            them, so 5 here.

    Raises:
        ValueError: μ is not above 0, or the warm-up negative.
    """

    observes = True

    def __init__(self, mu: float = 1.0, warmup_epochs: int = 5) -> None:
        super().__init__()
        if not mu > 0:
            raise ConfigurationError("model.balancer.mu", "must be above 0", mu)
        if warmup_epochs < 0:
            raise ConfigurationError("model.balancer.warmup_epochs", "must be at least 0", warmup_epochs)
        self.mu, self.warmup_epochs = mu, warmup_epochs

    def start(self, tasks: int) -> None:
        """A mean a task."""
        self.nadirs = EpochMeans(tasks)

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The smooth maximum of the losses [T'], or the sum of their logarithms in the warm-up."""
        logs = floored(losses).log()
        if step.epoch < self.warmup_epochs:
            return logs.sum()
        seen = self.nadirs.epochs[step.present] >= 0
        nadirs = torch.where(seen, self.nadirs()[step.present], losses.detach())
        return len(losses) * self.mu * ((logs - floored(nadirs).log()) / self.mu).logsumexp(0)

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """Add the losses to the epoch's means while the warm-up lasts, and where a task is seen for the first time."""
        adds = (self.nadirs.epochs[step.present] < 0) | (step.epoch < self.warmup_epochs)
        self.nadirs.add(losses[adds], step.present[adds.cpu()], step.epoch)
