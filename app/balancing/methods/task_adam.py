"""Adam for one number a task, of which some are absent."""

import torch
from torch import Tensor, nn


class TaskAdam(nn.Module):
    """Adam (Kingma & Ba 2015) on a vector with one entry a task; an absent task's entry and moments stay as they are.

    As torch.optim.Adam with a parameter a task, whose gradient is None where the task is absent, but with its state in
    buffers.

    Args:
        tasks: Number T of tasks.
        lr: Learning rate.
        weight_decay: Times the value, added to the gradient.
    """

    first: Tensor
    second: Tensor
    steps: Tensor

    def __init__(self, tasks: int, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.register_buffer("first", torch.zeros(tasks))
        self.register_buffer("second", torch.zeros(tasks))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.long))

    def forward(self, values: Tensor, gradients: Tensor, present: Tensor) -> Tensor:
        """The values [T'] of the present tasks after a step along their gradients [T']; advances their moments."""
        gradients = gradients.to(self.first) + self.weight_decay * values
        self.steps[present] += 1
        steps = self.steps[present].to(self.first)
        first = self.first[present].lerp(gradients, 1 - 0.9)
        second = 0.999 * self.second[present] + (1 - 0.999) * gradients.square()
        self.first[present], self.second[present] = first, second
        scale = (second / (1 - 0.999**steps)).sqrt() + 1e-8
        return values - self.lr * first / (1 - 0.9**steps) / scale
