"""Every row feeds the task that it was drawn for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sampling.base import Booleans, Integers, Plan, Sampling, at_least_one, checked_batch_size, step_rows
from datamodules.sampling.stream import Stream
from datamodules.sampling.turns import WHOLE, Periods, Quotas, RoundRobin, Turns

Reals = NDArray[np.float64]
BATCH_SIZE = 32


class PerTask(Sampling):
    """Draws rows task by task, by default as many for each, however much data each has (uniform task sampling).

    A row feeds the task it was drawn for and no other. Each task goes through its own rows in passes, shuffled anew
    every pass, without regard to the end of an epoch; no row comes twice for one task in a step, over all processes and
    micro-batches. Tasks and numbers of rows are drawn by shuffled quotas: over a run each has its share.

    Args:
        batch_size: Rows a task and micro-batch on each process: one number, or task → number; 32 if neither this nor
            `global_batch_size` is given.
        probabilities: Each task's share: "uniform"; "proportional" to its labelled rows; or task → probability. Where
            all tasks take part in a step it is their share of the step's rows (the number of tasks × `batch_size`),
            where some do it is how often a task is among them.
        temperature: Flattens "proportional": probabilities ∝ rows^(1 / temperature). 1 leaves it as it is.
        tasks_per_step: How many tasks take part in a step; null for all (1 with `round_robin`).
        round_robin: Let the tasks take turns in their order.
        periods: task → n, for a task that takes part in every n-th step only.
        epoch_length: Optimizer steps in an epoch: a number, or as many as visit all rows of the task that takes
            "longest", or "shortest", or as many rows as all tasks have in "total".
        global_batch_size: In place of `batch_size`, rows a task and optimizer step on all processes and in all
            micro-batches: what a run keeps where it goes on with another number of processes.
    """

    def __init__(
        self,
        batch_size: int | dict[str, int] | None = None,
        probabilities: Literal["uniform", "proportional"] | dict[str, float] = "uniform",
        temperature: float = 1.0,
        tasks_per_step: int | None = None,
        round_robin: bool = False,
        periods: dict[str, int] | None = None,
        epoch_length: int | Literal["longest", "shortest", "total"] = "longest",
        global_batch_size: int | dict[str, int] | None = None,
    ) -> None:
        self.batch_size = checked_batch_size(batch_size, global_batch_size, BATCH_SIZE)
        self.global_batch_size, self.probabilities, self.temperature = global_batch_size, probabilities, temperature
        self.tasks_per_step, self.round_robin = tasks_per_step or (1 if round_robin else None), round_robin
        self.periods, self.epoch_length = periods or {}, epoch_length
        for key, value in {"tasks_per_step": tasks_per_step, "epoch_length": epoch_length}.items():
            if isinstance(value, int):
                at_least_one(f"sampling.{key}", value)
        for task, period in self.periods.items():
            at_least_one(f"sampling.periods.{task}", period)
        self._check()

    def plan(
        self,
        labelled: Tensor,
        tasks: Sequence[str],
        seed: int,
        ranks: int = 1,
        accumulate: int = 1,
        limit: Callable[[int], int] = int,
    ) -> Plan:
        """One endless stream of rows a task, of which each step takes its part."""
        self._check_tasks(tasks)
        sizes = labelled.sum(dim=1).numpy()
        base, extra, turns = self._rows_of_step(sizes, tasks, seed, ranks * accumulate)
        for task, most, size in zip(tasks, base + extra, sizes, strict=True):
            if most > size:
                raise DataError(
                    "data.sampling.batch_size",
                    f"a step must not draw a row of task {task!r} twice",
                    f"{most} rows a step ({ranks} processes × {accumulate} micro-batches × batch) of "
                    f"{size} labelled ones",
                )
        streams = [
            Stream(mask.nonzero().squeeze(1).numpy(), int(most), (seed, task))
            for task, (mask, most) in enumerate(zip(labelled, base + extra, strict=True))
        ]
        return Streams(streams, base, extra, turns, self._steps(sizes, base + extra * turns.shares), accumulate, limit)

    def _rows_of_step(
        self, sizes: Integers, tasks: Sequence[str], seed: int, parts: int
    ) -> tuple[Integers, Integers, Turns]:
        """Rows of each task [T] in every step, those [T] in the steps in which it has a turn, and the turns.

        Args:
            sizes: [T] labelled rows of each task.
            tasks: [T] their names.
            seed: Of the turns.
            parts: Ranks times micro-batches of a step.
        """
        own, whole = _by_task(self.batch_size, tasks), _by_task(self.global_batch_size, tasks)
        rows = np.array([step_rows(own[task], whole[task], parts) for task in tasks])
        none = np.zeros_like(rows)
        each_step = self.tasks_per_step or len(tasks)
        if self.round_robin:
            return none, rows, RoundRobin(len(tasks), each_step)
        if each_step < len(tasks):
            shares = self._shares(sizes, tasks, each_step)
            for task, share in zip(tasks, shares / WHOLE, strict=True):
                if share > 1:
                    raise DataError(
                        "data.sampling.probabilities",
                        f"must be at most 1 / tasks_per_step, {1 / each_step:.4g}, as a task takes part once in a step",
                        f"{share / each_step:.4g} for task {task!r}",
                    )
            return none, rows, Quotas(shares, seed)
        if self.probabilities == "uniform":
            return none, rows, Periods([self.periods.get(task, 1) for task in tasks])
        shares = self._shares(sizes, tasks, int(rows.sum()))
        return shares // WHOLE, (shares % WHOLE > 0).astype(np.int64), Quotas(shares % WHOLE, seed)

    def _shares(self, sizes: Integers, tasks: Sequence[str], number: int) -> Integers:
        """What each task has of `number` tasks or rows a step, [T], in units of 1 / WHOLE."""
        if isinstance(self.probabilities, dict):
            weights = np.array([self.probabilities[task] for task in tasks])
        else:
            weights = sizes ** (1 / self.temperature if self.probabilities == "proportional" else 0.0)
        exact = weights / weights.sum() * number * WHOLE
        shares: Integers = np.floor(exact).astype(np.int64)
        largest_remainders = np.argsort(shares - exact, kind="stable")
        shares[largest_remainders[: number * WHOLE - shares.sum()]] += 1
        return shares

    def _steps(self, sizes: Integers, expected: Reals) -> int:
        """Optimizer steps of an epoch, for tasks of `sizes` [T] labelled rows and `expected` [T] rows a step."""
        if isinstance(self.epoch_length, int):
            return self.epoch_length
        passes, total = sizes / expected, sizes.sum() / expected.sum()
        steps: float = {"longest": passes.max(), "shortest": passes.min(), "total": total}[self.epoch_length]
        return ceil(steps * (1 - 1e-8))  # shares are rounded: 3.00000001 is meant to be 3

    def _check(self) -> None:
        """Refuse settings that do not go together."""
        partial = self.tasks_per_step is not None
        if not self.temperature > 0:
            raise DataError("data.sampling.temperature", "must be positive", self.temperature)
        if self.temperature != 1 and self.probabilities != "proportional":
            raise DataError(
                "data.sampling.temperature",
                "is for probabilities 'proportional'",
                f"{self.temperature} with {self.probabilities!r}",
            )
        if self.round_robin and self.probabilities != "uniform":
            raise DataError(
                "data.sampling.round_robin",
                "gives every task the same turns; probabilities must be 'uniform'",
                repr(self.probabilities),
            )
        if self.periods and (partial or self.probabilities != "uniform"):
            raise DataError(
                "data.sampling.periods",
                "is for steps in which all tasks take part alike, without tasks_per_step, "
                "round_robin and probabilities",
                self.periods,
            )
        for key in ("batch_size", "global_batch_size"):
            given = getattr(self, key)
            if isinstance(given, dict) and not partial and self.probabilities != "uniform":
                rule = "must be one number where probabilities divide the rows of a step"
                raise DataError(f"data.sampling.{key}", rule, given)
        if isinstance(self.probabilities, dict):
            values = self.probabilities.values()
            if min(values, default=0) <= 0 or abs(sum(values) - 1) > 1e-6:
                raise DataError("data.sampling.probabilities", "must be positive and add up to 1", self.probabilities)

    def _check_tasks(self, tasks: Sequence[str]) -> None:
        """Refuse settings that do not fit the data's tasks."""
        if (self.tasks_per_step or 1) > len(tasks):
            raise DataError(
                "data.sampling.tasks_per_step",
                f"must be at most the number of tasks, {len(tasks)}",
                self.tasks_per_step,
            )
        for key in ("batch_size", "global_batch_size", "probabilities", "periods"):
            given = getattr(self, key)
            if isinstance(given, dict) and (set(given) - set(tasks) if key == "periods" else set(given) != set(tasks)):
                rule = "be among" if key == "periods" else "name each of"
                raise DataError(f"data.sampling.{key}", f"must {rule} the tasks {list(tasks)}", sorted(given))
        if self.periods and all(self.periods.get(task, 1) > 1 for task in tasks):
            raise DataError("data.sampling.periods", "must leave a task that takes part in every step", self.periods)


def _by_task(rows: int | dict[str, int] | None, tasks: Sequence[str]) -> dict[str, int | None]:
    return {**rows} if isinstance(rows, dict) else dict.fromkeys(tasks, rows)


class Streams(Plan):
    """The next rows of every task's stream: `base` rows in every step, and `extra` where the task has a turn.

    Args:
        streams: One a task.
        base: [T] rows of each task in every optimizer step, on all ranks and in all micro-batches.
        extra: [T] rows more in a step in which it has a turn.
        turns: The tasks of each optimizer step.
        steps: Optimizer steps in an epoch.
        accumulate: Micro-batches an optimizer step.
        limit: Micro-batches of a whole epoch → those of them that are used.
    """

    def __init__(
        self,
        streams: list[Stream],
        base: Integers,
        extra: Integers,
        turns: Turns,
        steps: int,
        accumulate: int,
        limit: Callable[[int], int],
    ) -> None:
        self.streams, self.base, self.extra, self.turns = streams, base, extra, turns
        self.steps, self.accumulate = steps, accumulate
        self.used = ceil(limit(len(self)) / accumulate)  # an epoch begins where the one before it was left
        self.window = lru_cache(maxsize=1)(self._window)

    def __len__(self) -> int:
        """Micro-batches in an epoch."""
        return self.steps * self.accumulate

    def draw(self, epoch: int, step: int) -> tuple[Integers, Integers, Booleans]:
        """A micro-batch's part of the rows of its optimizer step."""
        rows, visits, feeds = self.window(epoch * self.used + step // self.accumulate)
        part = slice(step % self.accumulate, None, self.accumulate)
        return rows[part], visits[part], feeds[:, part]

    def _window(self, step: int) -> tuple[Integers, Integers, Booleans]:
        """Rows, visits and feeds of an optimizer step, task by task; a row drawn for two tasks comes once."""
        sizes = self.base + self.extra * self.turns.at(step)
        starts = self.base * step + self.extra * self.turns.before(step)
        taken = [self.streams[task].take(int(starts[task]), int(sizes[task])) for task in np.flatnonzero(sizes)]
        rows = np.concatenate([rows for rows, _ in taken])
        task_of = np.repeat(np.arange(len(sizes)), sizes)
        visits = np.concatenate([passes for _, passes in taken]) * len(sizes) + task_of
        _, first, row = np.unique(rows, return_index=True, return_inverse=True)
        places = np.sort(first)  # rows in the order of their first appearance
        feeds = np.zeros((len(sizes), len(places)), dtype=np.bool_)
        feeds[task_of, np.searchsorted(places, first)[row]] = True
        return rows[places], visits[places], feeds
