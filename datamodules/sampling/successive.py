"""One task after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor
from typing_extensions import override

from datamodules.errors import DataError
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


class Successive(Sampling):
    """Every epoch has a phase a task, in order, each of which visits all rows with the task's label once, shuffled.

    A row feeds the task of the phase and no other. Hashimoto et al., "A Joint Many-Task Model: Growing a Neural Network
    for Multiple NLP Tasks" (2017), section 3.

    Args:
        batch_size: Rows a micro-batch on each process; 64 if neither number is given.
        global_batch_size: In its place, rows an optimizer step on all processes and in all micro-batches.
        order: The tasks in the order of their phases; null for the data's.
    """

    def __init__(
        self,
        batch_size: int | None = None,
        global_batch_size: int | None = None,
        order: list[str] | None = None,
    ) -> None:
        self.batch_size = checked_batch_size(batch_size, global_batch_size, BATCH_SIZE)
        self.global_batch_size, self.order = global_batch_size, order

    def plan(
        self,
        labelled: Tensor,
        tasks: Sequence[str],
        seed: int,
        ranks: int = 1,
        accumulate: int = 1,
        limit: Callable[[int], int] = int,
    ) -> Plan:
        """Pages of a new permutation of each task's labelled rows every epoch."""
        order = list(tasks) if self.order is None else self.order
        if sorted(order) != sorted(tasks):
            raise DataError("data.sampling.order", f"must name each of the tasks {list(tasks)} once", order)
        size = step_rows(self.batch_size, self.global_batch_size, ranks * accumulate)
        return Passes(labelled, [tasks.index(task) for task in order], seed, size, ranks, accumulate)


class Passes(Plan):
    """A pass over each task's rows after the other, cut into optimizer steps; a single row at its end joins the last.

    The micro-batches of a step are of one task, so that a phase ends with a step.

    Args:
        labelled: [T, N] bool.
        order: The tasks' numbers, in the order of their passes.
        seed: Of the order of the rows.
        size: Rows an optimizer step, on all ranks and in all micro-batches.
        ranks: Number of processes.
        accumulate: Micro-batches an optimizer step.
    """

    def __init__(self, labelled: Tensor, order: list[int], seed: int, size: int, ranks: int, accumulate: int) -> None:
        self.rows = [np.flatnonzero(own) for own in labelled.numpy()]
        self.order, self.seed, self.size, self.accumulate = order, seed, size, accumulate
        self.fewest = min(2, size // (ranks * accumulate))  # see `Pages`
        self.steps = [pages_of(len(self.rows[task]), size) for task in order]
        self.ends = np.cumsum(self.steps)
        self.shuffled = lru_cache(maxsize=1)(self._shuffled)

    def __len__(self) -> int:
        """Micro-batches in an epoch."""
        return int(self.ends[-1]) * self.accumulate

    def draw(self, epoch: int, step: int) -> tuple[Integers, Integers, Booleans]:
        """A micro-batch's part of a page of one task's rows."""
        number, part = divmod(step, self.accumulate)
        place = int(np.searchsorted(self.ends, number, side="right"))
        task, page = self.order[place], number - int(self.ends[place]) + self.steps[place]
        end = None if page == self.steps[place] - 1 else (page + 1) * self.size
        rows = self.shuffled(epoch, task)[page * self.size : end][part :: self.accumulate]
        feeds = np.zeros((len(self.rows), len(rows)), dtype=np.bool_)
        feeds[task] = True
        return rows, np.full_like(rows, epoch * len(self.rows) + task), feeds

    @override
    def sharers(self, rows: int, ranks: int) -> int:
        return min(ranks, max(rows // self.fewest, 1))

    def _shuffled(self, epoch: int, task: int) -> Integers:
        """A task's rows in the order of an epoch."""
        rows = self.rows[task]
        return rows[permutation(len(rows), self.seed, epoch, task)]
