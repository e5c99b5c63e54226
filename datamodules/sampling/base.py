"""Which task, which rows: every draw is a pure function of (seed, epoch, step).

Nothing here holds a position or a random state, so a resumed run only has to know where it stands, and every rank
works out the whole step, takes its own part of it, and knows how many labelled rows the step has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from datamodules.errors import DataError
from datamodules.sampling.world import World

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Size = TypeVar("Size", bound=int | dict[str, int])  # a number of rows, or one a task


@dataclass(frozen=True)
class Draw:
    """Rows for one forward pass on one process, and what they are for.

    They are arrays, which cost little to cut, and reach a loader's workers by value: each tensor would take a file in
    shared memory, at the price of decoding an image.

    Attributes:
        rows: [B] indices into the split.
        visits: [B] a number that tells this visit to a row from others: what a random transform of it is drawn from.
        feeds: [T, B] bool: which tasks each row feeds.
        counts: [T] labelled rows of the whole optimizer step: all ranks, all micro-batches.
    """

    rows: Integers
    visits: Integers
    feeds: Booleans
    counts: list[int]


class Plan(ABC):
    """The micro-batches of every epoch over one split, each for all ranks together."""

    @abstractmethod
    def __len__(self) -> int:
        """Micro-batches in an epoch."""

    @abstractmethod
    def draw(self, epoch: int, step: int) -> tuple[Integers, Integers, Booleans]:
        """Micro-batch `step` of `epoch` on all ranks: rows [B], their visits [B], and what they feed, bool [T, B]."""

    def sharers(self, rows: int, ranks: int) -> int:
        """How many of the ranks share the `rows` of a micro-batch; the others have none of it. Here all of them."""
        return ranks


class Sampling(ABC):
    """How the rows of a training step are chosen."""

    @abstractmethod
    def plan(
        self,
        labelled: Tensor,
        tasks: Sequence[str],
        seed: int,
        ranks: int = 1,
        accumulate: int = 1,
        limit: Callable[[int], int] = int,
    ) -> Plan:
        """The plan for a split.

        Args:
            labelled: [T, N] bool: which rows carry a label of which task.
            tasks: [T] their names.
            seed: Of the order of the rows.
            ranks: Number of processes.
            accumulate: Micro-batches an optimizer step.
            limit: Micro-batches of a whole epoch → those of them that are used, as `trainer.limit_train_batches` says.

        Raises:
            ValueError: The settings do not fit the data.
        """


class DrawSampler(Sampler[Draw]):
    """The draws of one process, epoch after epoch.

    Args:
        plan: What all ranks draw together.
        world: The processes and micro-batches of a step, and how far the run is.
    """

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan, self.world = plan, world

    def __len__(self) -> int:
        """Micro-batches of the plan: the trainer applies `limit_train_batches` to it, and comes to those drawn."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Draw]:
        """What is left of the epoch."""
        # Not a generator: a loader's workers run ahead, so the position is read now, not at the first `next`.
        return self._draws(*self.world.position())

    def _draws(self, epoch: int, done: int) -> Iterator[Draw]:
        rank, ranks, accumulate = self.world.rank, self.world.ranks, self.world.accumulate
        length = self.world.limited(len(self.plan))
        for first in range(done - done % accumulate, length, accumulate):
            window = range(first, min(first + accumulate, length))
            draws = [self.plan.draw(epoch, step) for step in window]
            counts = sum(feeds.sum(axis=1) for *_, feeds in draws).tolist()
            for step, (rows, visits, feeds) in zip(window, draws, strict=True):
                if step >= done:
                    sharers = self.plan.sharers(len(rows), ranks)
                    part = slice(rank, None, sharers) if rank < sharers else slice(0)
                    yield Draw(rows[part], visits[part], feeds[:, part], counts)


def step_rows(own: int | None, whole: int | None, parts: int) -> int:
    """Rows of an optimizer step on all processes and in all its micro-batches.

    Args:
        own: Those of a micro-batch on each process.
        whole: Those of the step, where they are given in place of `own`.
        parts: Processes times micro-batches.

    Raises:
        ValueError: They cannot be divided evenly.
    """
    if whole is None:
        assert own is not None
        return own * parts
    if whole % parts:
        rule = f"must be a multiple of {parts}, the processes × micro-batches of a step"
        raise DataError("data.sampling.global_batch_size", rule, whole)
    return whole


def checked_batch_size(own: Size | None, whole: Size | None, default: int) -> Size | int | None:
    """Rows a micro-batch on each process: those given, else the default; None where those of a step are given.

    Raises:
        ValueError: A number is below 1, or both are given, of which one says what the other does.
    """
    if own is not None and whole is not None:
        rule = "takes the place of data.sampling.batch_size, which must then be null"
        raise DataError("data.sampling.global_batch_size", rule, f"{whole} beside {own}")
    for key, values in {"batch_size": own, "global_batch_size": whole}.items():
        for task, value in values.items() if isinstance(values, dict) else [("", values)]:
            if value is not None:
                at_least_one(f"sampling.{key}" + (f".{task}" if task else ""), value)
    return default if own is None and whole is None else own


def pages_of(rows: int, size: int) -> int:
    """Into how many pages of a size rows are cut; a last page of a single row joins the one before."""
    alone = rows % size == 1 and rows > size > 1
    return rows // size if alone else ceil(rows / size)


def at_least_one(key: str, value: int) -> int:
    """`value`, or a ValueError that names the configuration's `key` where it is below 1."""
    if value < 1:
        raise DataError(f"data.{key}", "must be at least 1", value)
    return value


def permutation(size: int, *key: int) -> Integers:
    """A shuffled `arange(size)` that follows from `key` alone."""
    return np.random.default_rng(key).permutation(size)
