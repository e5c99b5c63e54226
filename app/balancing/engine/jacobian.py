"""The tasks' gradients of what they share, one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from app.balancing.engine.gramian_source import GramianSource
from app.ranks.collectives import several, sum_over_ranks
from app.ranks.gradients import reached_anywhere

CHUNK = 2**18


class Jacobian(GramianSource):
    """The Jacobian itself, T' gradients of P numbers, in 32 bits or more.

    Args:
        shared: The shared parameters, the same on every rank and in the same order, or the shared features.
        tasks: T'.
    """

    def __init__(self, shared: Sequence[Tensor], tasks: int) -> None:
        super().__init__(shared, tasks)
        self.inputs = shared
        self.sizes = [x.numel() for x in shared]
        like = shared[0] if shared else torch.empty(0)
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.gradients = torch.empty(tasks, sum(self.sizes), dtype=dtype, device=like.device)
        self.clear()

    @override
    def clear(self) -> None:
        """Begin a new step; the memory is kept, since touching fresh memory costs as much as a part of the network."""
        self.reached = [False] * len(self.shared)
        self.taken = [False] * self.tasks

    def take(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """Add a task's gradients, one for each of `shared`; None where its loss does not reach it."""
        for number, (part, gradient) in enumerate(
            zip(self.gradients[task].split_with_sizes(self.sizes), gradients, strict=True)
        ):
            if gradient is not None:
                part.add_(gradient.flatten()) if self.taken[task] else part.copy_(gradient.flatten())
                self.reached[number] = True
            elif not self.taken[task]:
                part.zero_()
        self.taken[task] = True

    def sum_over_ranks(self) -> None:
        """Add up the gradients of all ranks; moves T'·P numbers. Collective."""
        self._complete()
        if self.shared and several():
            self.reached = reached_anywhere(self.reached, self.gradients.device)
            sum_over_ranks(self.gradients)

    @override
    def gramian(self) -> Tensor:
        self._complete()
        parts = [part @ part.T for part in self.gradients.split_with_sizes(_chunks(self.gradients.shape[1]), dim=1)]
        return torch.stack([part.double() for part in parts]).sum(0).cpu()

    @override
    def combine(self, weights: Tensor) -> None:
        self.write(weights.to(self.gradients) @ self.gradients)

    def _complete(self) -> None:
        """Let the gradients that were not taken be zero."""
        for task, taken in enumerate(self.taken):
            if not taken:
                self.gradients[task].zero_()
                self.taken[task] = True

    def write(self, vector: Tensor) -> None:
        """Write a vector [P] into `.grad` of `shared`; what no task has reached keeps None."""
        for x, part, reached in zip(self.shared, vector.split_with_sizes(self.sizes), self.reached, strict=True):
            if reached:
                x.grad = part.view_as(x).to(x.dtype)


def _chunks(count: int) -> list[int]:
    """Sizes that sum to `count`: products over millions of numbers in 32 bits lose digits that their parts keep."""
    return [min(CHUNK, count - start) for start in range(0, max(count, 1), CHUNK)]
