"""Mean losses by epoch, where tasks may be absent."""

import torch
from torch import Tensor, nn


class EpochMeans(nn.Module):
    """The mean of each task's losses over the steps of the last epoch that it was in; an absent task's stays as it is.

    Attributes:
        epochs: [T] that epoch, −1 before the task was seen.
        sums: [T] of the losses in it.
        steps: [T] that the sums are of.
    """

    epochs: Tensor
    sums: Tensor
    steps: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.register_buffer("epochs", torch.full((tasks,), -1))
        self.register_buffer("sums", torch.zeros(tasks))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.long))

    def add(self, losses: Tensor, tasks: Tensor, epoch: int) -> None:
        """Add a step's losses [T'] of `tasks` [T']; a task's first step in an epoch starts its mean anew."""
        fresh = self.epochs[tasks] != epoch
        self.sums[tasks] = self.sums[tasks].masked_fill(fresh, 0) + losses.to(self.sums)
        self.steps[tasks] = self.steps[tasks].masked_fill(fresh, 0) + 1
        self.epochs[tasks] = epoch

    def forward(self) -> Tensor:
        """The means [T], 0 for a task that was never seen."""
        return self.sums / self.steps.clamp(min=1)
