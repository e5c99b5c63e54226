"""Which tasks take their turn in a step, and how often they did before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from datamodules.sampling.base import Integers

WHOLE = 10**9  # a share of one, so that shares add up exactly


class Turns(ABC):
    """A pure function from the number of a step to the tasks that take part in it.

    Attributes:
        shares: [T] share of the steps that each task takes part in.
    """

    shares: NDArray[np.float64]

    @abstractmethod
    def at(self, step: int) -> Integers:
        """[T] 1 where a task takes part in `step`, else 0."""

    @abstractmethod
    def before(self, step: int) -> Integers:
        """[T] steps before `step` that each task took part in."""


class Periods(Turns):
    """A task takes part in every n-th step, the first step included.

    Args:
        periods: [T] the n of each task.
    """

    def __init__(self, periods: Sequence[int]) -> None:
        self.periods = np.array(periods)
        self.shares = 1 / self.periods

    def at(self, step: int) -> Integers:
        """Whether the step is a multiple of the period."""
        turns: Integers = (step % self.periods == 0).astype(np.int64)
        return turns

    def before(self, step: int) -> Integers:
        """Multiples of the period below `step`."""
        multiples: Integers = -(-step // self.periods)
        return multiples


class RoundRobin(Turns):
    """Tasks take part in their order, `each_step` of them a step, over and over.

    Args:
        tasks: Number of tasks T.
        each_step: How many take part in a step.
    """

    def __init__(self, tasks: int, each_step: int) -> None:
        self.tasks, self.each_step = np.arange(tasks), each_step
        self.shares = np.full(tasks, each_step / tasks)

    def at(self, step: int) -> Integers:
        """The tasks that this step has reached."""
        return self.before(step + 1) - self.before(step)

    def before(self, step: int) -> Integers:
        """Rounds of each task among the first `step * each_step` turns."""
        rounds: Integers = -(-(step * self.each_step - self.tasks) // len(self.tasks))
        return rounds


class Quotas(Turns):
    """In each block of steps every task takes part as often as its share says, in shuffled order.

    The tasks of a block are drawn by systematic sampling (Madow 1949), which gives each step the same number of
    different tasks, and each task its share of the block's steps rounded down or up; the rounding moves on evenly from
    block to block. Then the steps are shuffled, and tasks are traded between random pairs of steps (Strona et al.
    2014, curveball), which keeps both numbers, so that any tasks may meet.

    Args:
        shares: [T] share of the steps that each task takes part in, in units of 1 / WHOLE, none above WHOLE; they add
            up to a multiple of WHOLE, the number of tasks in each step.
        seed: Of the order.
    """

    BLOCK = 64
    TRADES = 3  # rounds of them a block

    def __init__(self, shares: Integers, seed: int) -> None:
        self.shares, self.each_step, self.seed = shares / WHOLE, int(shares.sum() // WHOLE), seed
        self.ends = np.cumsum(shares * self.BLOCK)
        self.block = lru_cache(maxsize=2)(self._block)

    def at(self, step: int) -> Integers:
        """The tasks of one step of its block."""
        turns: Integers = self.block(step // self.BLOCK)[1][step % self.BLOCK]
        return turns

    def before(self, step: int) -> Integers:
        """Turns in all earlier blocks, and in this one so far."""
        earlier, turns = self.block(step // self.BLOCK)
        total: Integers = earlier + turns[: step % self.BLOCK].sum(axis=0)
        return total

    def _block(self, number: int) -> tuple[Integers, Integers]:
        """Turns of each task in the blocks before `number` [T], and in each step of it [BLOCK, T]."""
        rng = np.random.default_rng((self.seed, number))
        points = np.arange(self.each_step * self.BLOCK)
        tasks = np.searchsorted(self.ends, points * WHOLE + self._offsets(number, number + 1)[0], side="right")
        turns = np.zeros((self.BLOCK, len(self.ends)), dtype=np.int64)
        turns[points % self.BLOCK, tasks] = 1
        turns = rng.permutation(turns)
        if self.each_step > 1:
            self._trade(turns, rng)
        # A task's points are those from the end of the task before it up to its own end.
        ends = -((self._offsets(0, number)[:, None] - self.ends) // WHOLE)
        return np.diff(ends.sum(axis=0), prepend=0), turns

    def _offsets(self, first: int, last: int) -> Integers:
        """Where systematic sampling begins in the blocks from `first` to `last`: multiples of the golden ratio."""
        return np.arange(first, last) * 618_033_989 % WHOLE

    def _trade(self, turns: Integers, rng: np.random.Generator) -> None:
        """Deal the tasks that one of a pair of steps has alone between the two anew, in place."""
        for pair in rng.permutation(np.tile(np.arange(self.BLOCK), self.TRADES)).reshape(-1, 2):
            one, other = turns[pair]
            alone = np.flatnonzero(one != other)
            dealt = rng.permutation(alone)
            turns[pair[0], alone], turns[pair[1], alone] = 0, 0
            turns[pair[0], dealt[: one[alone].sum()]] = 1
            turns[pair[1], dealt[one[alone].sum() :]] = 1
