"""What the rows of a step are divided among, and how far a run is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _beginning() -> tuple[int, int]:
    return 0, 0


@dataclass(frozen=True)
class World:
    """The processes and micro-batches of an optimizer step, and the part of an epoch that is used.

    Attributes:
        rank: This process.
        ranks: Number of processes.
        accumulate: Micro-batches an optimizer step.
        limit: How many micro-batches of an epoch are used if it is an int, else which share of them.
        position: Tells (epoch, micro-batches of it that are done), asked when an iteration over an epoch begins.
    """

    rank: int = 0
    ranks: int = 1
    accumulate: int = 1
    limit: int | float = 1.0
    position: Callable[[], tuple[int, int]] = _beginning

    def limited(self, length: int) -> int:
        """Micro-batches that are used of an epoch of `length`."""
        return min(length, self.limit) if isinstance(self.limit, int) else int(length * self.limit)
