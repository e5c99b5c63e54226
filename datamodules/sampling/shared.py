"""Every row feeds every task that it has a label for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor
from typing_extensions import override

from datamodules.sampling.base import (
    Booleans,
    Integers,
    Plan,
    Sampling,
    checked_batch_size,
    pages_of,
    permutation,
    step_rows,
)

BATCH_SIZE = 64


class Shared(Sampling):
    """Every row feeds every task that it has a label for; an epoch visits every labelled row once, shuffled.

    Args:
        batch_size: Rows a micro-batch on each process; 64 if neither number is given.
        global_batch_size: In its place, rows an optimizer step on all processes and in all micro-batches: what a run
            keeps where it goes on with another number of processes.
    """

    def __init__(self, batch_size: int | None = None, global_batch_size: int | None = None) -> None:
        self.batch_size = checked_batch_size(batch_size, global_batch_size, BATCH_SIZE)
        self.global_batch_size = global_batch_size

    def plan(
        self,
        labelled: Tensor,
        tasks: Sequence[str],
        seed: int,
        ranks: int = 1,
        accumulate: int = 1,
        limit: Callable[[int], int] = int,
    ) -> Plan:
        """Pages of a new permutation of the labelled rows every epoch."""
        rows = np.flatnonzero(labelled.any(dim=0).numpy())
        parts = ranks * accumulate
        size = step_rows(self.batch_size, self.global_batch_size, parts) // parts
        return Pages(labelled, lambda epoch: rows[permutation(len(rows), seed, epoch)], size, ranks)


class Pages(Plan):
    """An order of rows, cut into pages; a last page of a single row joins the one before.

    The pages are those of one process with as many rows. A rank has none of a short page rather than a single row,
    from which batch normalisation learns nothing.

    Args:
        labelled: [T, N] bool.
        order: epoch → the rows that it visits.
        batch_size: Rows a page and rank.
        ranks: Number of processes.
        fewest: Rows that a rank with any has at least, where a page has so many and `batch_size` is no less.
    """

    def __init__(
        self, labelled: Tensor, order: Callable[[int], Integers], batch_size: int, ranks: int, fewest: int = 2
    ) -> None:
        self.labelled, self.order, self.size = labelled.numpy(), order, batch_size * ranks
        self.fewest = min(fewest, batch_size)
        self.book = lru_cache(maxsize=1)(self._book)
        self.pages = pages_of(len(order(0)), self.size)

    def __len__(self) -> int:
        """Pages."""
        return self.pages

    def draw(self, epoch: int, step: int) -> tuple[Integers, Integers, Booleans]:
        """One page, visited for the `epoch`-th time, and the tasks that its rows have a label for."""
        end = None if step == self.pages - 1 else (step + 1) * self.size
        page = slice(step * self.size, end)
        rows, visits, feeds = self.book(epoch)
        return rows[page], visits[page], feeds[:, page]

    @override
    def sharers(self, rows: int, ranks: int) -> int:
        return min(ranks, max(rows // self.fewest, 1))

    def _book(self, epoch: int) -> tuple[Integers, Integers, Booleans]:
        """All pages of an epoch."""
        rows = self.order(epoch)
        return rows, np.full_like(rows, epoch), self.labelled.take(rows, axis=1)
