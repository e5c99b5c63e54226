"""One task's rows, over and over."""

from __future__ import annotations

from functools import lru_cache
from heapq import heappop, heappush

import numpy as np

from datamodules.sampling.base import Integers, permutation


class Stream:
    """Passes over `rows`, one after the other without end, each shuffled anew; no `gap` rows in turn hold one twice.

    Args:
        rows: [N_t] the rows of one task.
        gap: Rows that must all be different, wherever in the stream they begin; at most N_t.
        key: What the order is drawn from, beside the number of the pass.
    """

    def __init__(self, rows: Integers, gap: int, key: tuple[int, ...]) -> None:
        self.rows, self.gap = rows, gap
        self._shuffled = lru_cache(maxsize=2)(lambda number: permutation(len(rows), *key, number))
        self._passes: dict[int, Integers] = {}  # the last two

    def take(self, start: int, size: int) -> tuple[Integers, Integers]:
        """Elements `start` to `start + size`, and the pass that each is of, both [size]; `size` is at most the gap."""
        number, begin = divmod(start, len(self.rows))
        order = self._pass(number)[begin : begin + size]
        passes = np.full(size, number)
        if rest := size - len(order):
            order = np.concatenate([order, self._pass(number + 1)[:rest]])
            passes[-rest:] = number + 1
        return self.rows[order], passes

    def _pass(self, number: int) -> Integers:
        """The order of one pass."""
        # Spacing reaches less than two gaps into a pass, so a pass of three ends as it was shuffled, and the next one
        # follows from two shuffles alone. A shorter pass follows from all before it.
        apart = len(self.rows) >= 3 * self.gap
        if number not in self._passes:
            latest = max(self._passes, default=-1)
            for each in range(number if apart else latest + 1 if latest < number else 0, number + 1):
                order = self._shuffled(each)
                if each > 0:
                    before = self._shuffled(each - 1) if apart else self._passes[each - 1]
                    order = spaced(order, before[len(before) - self.gap + 1 :])
                self._passes = {n: kept for n, kept in self._passes.items() if n == each - 1} | {each: order}
        return self._passes[number]


def spaced(order: Integers, tail: Integers) -> Integers:
    """`order`, with elements of `tail`, which comes before it, moved back as little as keeps equal ones apart.

    Among any `len(tail) + 1` elements in turn of the tail and the result none occurs twice.

    Args:
        order: [N] a permutation.
        tail: [M] some of its elements, M < N.
    """
    free = dict(zip(tail.tolist(), range(1, len(tail) + 1), strict=True))  # element → first place that it may take
    elements = order[: 3 * len(tail) + 3].tolist()  # further in, nothing moves
    freed: list[list[int]] = [[] for _ in range(len(tail) + 1)]  # place → where the elements freed there wait from
    waiting: list[int] = []
    result: list[int] = []
    taken = blocked = 0
    while len(result) < len(tail) or waiting or blocked:
        place = len(result)
        for number in freed[place] if place < len(freed) else []:
            heappush(waiting, number)
            blocked -= 1
        if waiting:
            result.append(elements[heappop(waiting)])
            continue
        while free.get(elements[taken], 0) > place:
            freed[free[elements[taken]]].append(taken)
            blocked += 1
            taken += 1
        result.append(elements[taken])
        taken += 1
    return np.concatenate([np.array(result, dtype=np.int64), order[taken:]])
