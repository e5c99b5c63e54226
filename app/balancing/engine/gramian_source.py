"""What the tasks' gradients are kept in until their Gramian and a weighted sum of them have been found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge


class GramianSource(ABC):
    """Keeps what a step's J Jᵀ and Jᵀ weights take, of the Jacobian J [T', P] of T' losses.

    Args:
        shared: What J is with respect to, of P numbers together.
        tasks: T'.

    Attributes:
        inputs: What the losses are to be differentiated by.
    """

    inputs: Sequence[Tensor | GradientEdge]

    def __init__(self, shared: Sequence[Tensor], tasks: int) -> None:
        self.shared, self.tasks = shared, tasks

    def is_for(self, shared: Sequence[Tensor], tasks: int) -> bool:
        """Whether it is of these very tensors and of so many tasks."""
        return [*map(id, shared)] == [*map(id, self.shared)] and tasks == self.tasks

    @abstractmethod
    def gramian(self) -> Tensor:
        """J Jᵀ [T', T'], in float64 on the CPU."""

    @abstractmethod
    def combine(self, weights: Tensor) -> None:
        """Write Jᵀ weights, of weights [T'], into `.grad` of `shared`; what no task has reached keeps None."""

    @abstractmethod
    def clear(self) -> None:
        """Let go of the step."""


Source = TypeVar("Source", bound=GramianSource)


def kept_or_new(
    kept: Source | None,
    new: Callable[[Sequence[nn.Parameter], int], Source],
    shared: Sequence[nn.Parameter],
    tasks: int,
) -> Source:
    """`kept` with its memory, if it is for these parameters and so many tasks; else a `new` one."""
    return kept if kept is not None and kept.is_for(shared, tasks) else new(shared, tasks)
