"""Which task, which rows: every draw is a pure function of (seed, epoch, step).

Nothing here holds a position or a random state, so a resumed run only has to know where it stands, and every rank
works out the whole step, takes its own part of it, and knows how many labelled rows the step has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """Rows for one forward pass on one process, and what they are for.

    Attributes:
        rows: [B] indices into the split.
        visits: [B] a number that tells this visit to a row from others: what a random transform of it is drawn from.
        feeds: [T, B] bool: which tasks each row feeds.
        counts: [T] labelled rows of the whole optimizer step: all ranks, all micro-batches.
    """

    rows: Tensor
    visits: Tensor
    feeds: Tensor
    counts: list[int]


class Plan(ABC):
    """The micro-batches of every epoch over one split, each for all ranks together."""

    @abstractmethod
    def __len__(self) -> int:
        """Micro-batches in an epoch."""

    @abstractmethod
    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Micro-batch `step` of `epoch` on all ranks: rows [B], their visits [B], and what they feed, bool [T, B]."""


class Sampling(ABC):
    """How the rows of a training step are chosen."""

    @abstractmethod
    def plan(self, labelled: Tensor, ranks: int, seed: int, accumulate: int = 1) -> Plan:
        """The plan for a split with `labelled` [T, N] on `ranks` processes, `accumulate` micro-batches a step."""


class Shared(Sampling):
    """Every row feeds every task that it has a label for; an epoch visits every labelled row once, shuffled.

    Args:
        batch_size: Rows a micro-batch on each process.
    """

    def __init__(self, batch_size: int = 64) -> None:
        self.batch_size = positive("sampling.batch_size", batch_size)

    def plan(self, labelled: Tensor, ranks: int, seed: int, accumulate: int = 1) -> Plan:
        """Pages of a new permutation of the labelled rows every epoch."""
        rows = labelled.any(dim=0).nonzero().squeeze(1)
        return Pages(labelled, lambda epoch: rows[_permutation(len(rows), seed, epoch)], self.batch_size, ranks)


class PerTask(Sampling):
    """Every step draws the same number of rows for every task, however much data each has (uniform task sampling).

    A row feeds the task it was drawn for and no other. Each task goes through its own rows in passes, shuffled anew
    every pass, without regard to the end of an epoch.

    Args:
        steps_per_epoch: Optimizer steps in an epoch.
        batch_size: Rows a task and micro-batch on each process.
    """

    def __init__(self, steps_per_epoch: int, batch_size: int = 32) -> None:
        self.steps_per_epoch = positive("sampling.steps_per_epoch", steps_per_epoch)
        self.batch_size = positive("sampling.batch_size", batch_size)

    def plan(self, labelled: Tensor, ranks: int, seed: int, accumulate: int = 1) -> Plan:
        """One endless stream of rows a task."""
        streams = [Stream(mask.nonzero().squeeze(1), (seed, task)) for task, mask in enumerate(labelled)]
        return Streams(streams, self.steps_per_epoch * accumulate, self.batch_size * ranks)


class Pages(Plan):
    """An order of rows, cut into pages; a last page with fewer rows than ranks joins the one before it.

    Args:
        labelled: [T, N] bool.
        order: epoch → the rows that it visits.
        batch_size: Rows a page and rank.
        ranks: Number of processes.
    """

    def __init__(self, labelled: Tensor, order: Callable[[int], Tensor], batch_size: int, ranks: int) -> None:
        self.labelled, self.size = labelled, batch_size * ranks
        self.order = lru_cache(maxsize=1)(order)
        rows = len(self.order(0))
        self.pages = rows // self.size if 0 < rows % self.size < ranks <= rows else ceil(rows / self.size)

    def __len__(self) -> int:
        """Pages."""
        return self.pages

    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """One page, and the tasks that its rows have a label for."""
        end = None if step == self.pages - 1 else (step + 1) * self.size
        rows = self.order(epoch)[step * self.size : end]
        return rows, torch.full_like(rows, epoch), self.labelled[:, rows]


class Streams(Plan):
    """The same number of rows from every task's stream.

    Args:
        streams: One a task.
        steps: Micro-batches in an epoch.
        size: Rows a task and micro-batch on all ranks together.
    """

    def __init__(self, streams: list[Stream], steps: int, size: int) -> None:
        self.streams, self.steps, self.size = streams, steps, size
        self.feeds = torch.eye(len(streams), dtype=torch.bool).repeat_interleave(size, dim=1)

    def __len__(self) -> int:
        """Micro-batches in an epoch."""
        return self.steps

    def draw(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The next rows of every stream."""
        start = (epoch * self.steps + step) * self.size
        rows = torch.cat([stream.take(start, self.size) for stream in self.streams])
        return rows, torch.full_like(rows, epoch), self.feeds


class Stream:
    """Passes over `rows`, one after the other without end, each shuffled anew.

    Args:
        rows: [N_t] the rows of one task.
        key: What the order is drawn from, beside the number of the pass.
    """

    def __init__(self, rows: Tensor, key: tuple[int, ...]) -> None:
        self.rows = rows
        self._pass = lru_cache(maxsize=2)(lambda number: rows[_permutation(len(rows), *key, number)])

    def take(self, start: int, size: int) -> Tensor:
        """Elements `start` to `start + size`."""
        first, last = start // len(self.rows), (start + size - 1) // len(self.rows)
        passes = torch.cat([self._pass(number) for number in range(first, last + 1)])
        return passes[start - first * len(self.rows) :][:size]


class DrawSampler(Sampler[Draw]):
    """The draws of one process, epoch after epoch.

    Args:
        plan: What all ranks draw together.
        rank: This process.
        ranks: Number of processes.
        accumulate: Micro-batches an optimizer step.
        length: Micro-batches of the plan that an epoch uses.
        position: (epoch, micro-batches of it that are done), asked when an iteration begins.
    """

    def __init__(
        self,
        plan: Plan,
        rank: int,
        ranks: int,
        accumulate: int,
        length: int,
        position: Callable[[], tuple[int, int]],
    ) -> None:
        self.plan, self.rank, self.ranks, self.accumulate = plan, rank, ranks, accumulate
        self.length, self.position = length, position

    def __len__(self) -> int:
        """Micro-batches of the plan: the trainer applies `limit_train_batches` to it, and comes to `length`."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Draw]:
        """What is left of the epoch."""
        # Not a generator: a loader's workers run ahead, so the position is read now, not at the first `next`.
        return self._draws(*self.position())

    def _draws(self, epoch: int, done: int) -> Iterator[Draw]:
        part = slice(self.rank, None, self.ranks)
        for first in range(done - done % self.accumulate, self.length, self.accumulate):
            window = range(first, min(first + self.accumulate, self.length))
            draws = [self.plan.draw(epoch, step) for step in window]
            counts = torch.stack([feeds.sum(dim=1) for *_, feeds in draws]).sum(dim=0).tolist()
            for step, (rows, visits, feeds) in zip(window, draws, strict=True):
                if step >= done:
                    yield Draw(rows[part].contiguous(), visits[part], feeds[:, part], counts)


def positive(key: str, value: int) -> int:
    """`value`, or a ValueError that names the configuration's `key` where it is below 1."""
    if value < 1:
        raise ValueError(f"data.{key}: must be at least 1, found {value}")
    return value


def _permutation(size: int, *key: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(key).permutation(size))
