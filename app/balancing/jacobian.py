"""The tasks' gradients of the shared parameters, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from app.synchronization import reached_anywhere


class Jacobian:
    """J [T', P]: the gradients of T' losses with respect to P shared parameters, summed over micro-batches and ranks.

    Args:
        parameters: The shared parameters, the same on every rank and in the same order.
        tasks: T'.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], tasks: int) -> None:
        self.inputs = parameters
        self.sizes = [parameter.numel() for parameter in parameters]
        like = parameters[0] if parameters else torch.empty(0)
        self.rows = torch.empty(tasks, sum(self.sizes), dtype=like.dtype, device=like.device)
        self.clear()

    def is_for(self, parameters: Sequence[nn.Parameter], tasks: int) -> bool:
        """Whether these are its parameters and this its number of tasks."""
        same = len(parameters) == len(self.inputs) and all(a is b for a, b in zip(parameters, self.inputs, strict=True))
        return same and len(self.rows) == tasks

    def clear(self) -> None:
        """Begin a new step; the memory is kept, since touching fresh memory costs as much as a part of the network."""
        self.reached = [False] * len(self.inputs)
        self.taken = [False] * len(self.rows)

    def take(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """Add to row `task` a gradient for each of `inputs`; None where the task's loss does not reach it."""
        for number, (part, gradient) in enumerate(
            zip(self.rows[task].split_with_sizes(self.sizes), gradients, strict=True)
        ):
            if gradient is not None:
                part.add_(gradient.flatten()) if self.taken[task] else part.copy_(gradient.flatten())
                self.reached[number] = True
            elif not self.taken[task]:
                part.zero_()
        self.taken[task] = True

    def complete(self) -> None:
        """Add up the micro-batches of all ranks; moves T'·P numbers. Collective."""
        for row, taken in zip(self.rows, self.taken, strict=True):
            if not taken:
                row.zero_()
        if dist.is_initialized() and self.inputs:
            self.reached = reached_anywhere(self.reached, self.rows.device)
            dist.all_reduce(self.rows)

    def gramian(self) -> Tensor:
        """J Jᵀ [T', T'], in float64 on the CPU."""
        return (self.rows @ self.rows.T).to("cpu", torch.float64)

    def combine(self, weights: Tensor) -> None:
        """Write Jᵀ weights, of weights [T'], into the parameters' `.grad`."""
        self.write(weights.to(self.rows) @ self.rows)

    def write(self, vector: Tensor) -> None:
        """Write a vector [P] into the parameters' `.grad`; what no task has reached keeps None."""
        for parameter, part, reached in zip(
            self.inputs, vector.split_with_sizes(self.sizes), self.reached, strict=True
        ):
            if reached:
                parameter.grad = part.view_as(parameter)
