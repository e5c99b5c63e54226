"""Which row goes to which part, where a dataset is to be split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError
from datamodules.targets import Target

Integers = NDArray[np.int64]
Members = tuple[Integers, Integers]  # rows, and for each the number of a class that it is of; a row may be of several


def split_rows(
    fractions: Sequence[float],
    strata: Integers,
    groups: Integers | None = None,
    seed: int = 0,
    members: Sequence[Members] = (),
) -> Integers:
    """The part [N] that each row goes to.

    A class that has come to have no row in part 0, the training, gets its first row (with its group) there, unless that
    empties a part.

    Args:
        fractions: The share of each part.
        strata: [N] rows with the same number are divided by the fractions too: without `groups`, each part gets its
            share of every stratum and of all rows to within one row.
        groups: [N] rows with the same number go to the same part. Sizes and strata are then as near to the fractions
            as it gets by giving one group after the other, the largest first, to the part where it lessens the squared
            deviations most.
        seed: Of the order of rows, and of groups of one size.
        members: The classes of the rows, by task.

    Raises:
        ValueError: The fractions are not positive, do not add up to one, or leave a part without a row.
    """
    if min(fractions) <= 0 or not isclose(sum(fractions), 1, abs_tol=1e-6):
        raise DataError(f"`fractions` must be positive and add up to 1, found {list(fractions)}")
    rng = np.random.default_rng(seed)
    shares = np.array(fractions)
    _, strata = np.unique(strata, return_inverse=True)
    parts = _by_strata(shares, strata, rng) if groups is None else _by_groups(shares, strata, groups, rng)
    train_on_all_classes(parts, members, groups)
    sizes = np.bincount(parts, minlength=len(shares))
    if not sizes.all():
        raise DataError(f"`fractions` must give each split a row, found {list(fractions)} of {len(parts)} rows")
    return parts


def train_on_all_classes(parts: Integers, members: Sequence[Members], groups: Integers | None = None) -> None:
    """Move the first row of every class that has no row in part 0 to it, in place, and the rest of its group too.

    A part that would be left without a row keeps its rows.

    Args:
        parts: [N] the part of each row.
        members: The classes of the rows, by task.
        groups: [N] rows with the same number stay in the same part.
    """
    given = parts.copy()
    for rows, classes in members:
        missing = ~np.isin(classes, classes[parts[rows] == 0])
        _, firsts = np.unique(classes[missing], return_index=True)
        moved = rows[missing][firsts]
        parts[moved] = 0
        if groups is not None:
            parts[np.isin(groups, groups[moved])] = 0
    for emptied in np.setdiff1d(given, parts):
        parts[given == emptied] = emptied


def members_of(
    targets: Mapping[str, Target], labels: Mapping[str, Tensor], labelled: Mapping[str, Tensor]
) -> list[Members]:
    """The classes of the rows by their `labels`, task → [N, ...], for every task that has classes.

    Args:
        targets: task → what its label is.
        labels: task → [N, ...].
        labelled: task → [N] bool: which rows carry its label.
    """
    members = []
    for task in labels:
        if task not in targets or targets[task].class_names is None:
            continue
        carried = labelled[task].nonzero().squeeze(1)
        rows, classes = targets[task].members(labels[task][carried])
        members.append((carried[rows].numpy(), classes.numpy()))
    return members


def _by_strata(shares: NDArray[np.float64], strata: Integers, rng: np.random.Generator) -> Integers:
    """Go through the strata and round every share up or down, up for the parts that are most behind."""
    parts = np.empty(len(strata), dtype=np.int64)
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    behind, start = np.zeros(len(shares)), 0  # what the parts have too little so far, always within one row
    for size in np.bincount(strata):
        behind += size * shares
        quotas = np.floor(size * shares).astype(np.int64)
        behind -= quotas
        extra = np.argsort(-behind, kind="stable")[: size - quotas.sum()]
        quotas[extra] += 1
        behind[extra] -= 1
        parts[order[start : start + size]] = np.repeat(np.arange(len(shares)), quotas)
        start += size
    return parts


def _by_groups(shares: NDArray[np.float64], strata: Integers, groups: Integers, rng: np.random.Generator) -> Integers:
    """Give whole groups away, the largest first."""
    _, groups = np.unique(groups, return_inverse=True)
    sizes = np.bincount(groups)
    if len(sizes) < len(shares):
        raise DataError(f"`group` must have a group for each of {len(shares)} splits, found {len(sizes)}")
    height = strata.max() + 1
    pairs, counts = np.unique(groups * height + strata, return_counts=True)  # rows of a group in a stratum
    starts = np.searchsorted(pairs // height, np.arange(len(sizes) + 1))
    wanted = np.outer(np.bincount(strata), shares)  # rows of a stratum that a part still lacks
    wanted_rows = len(groups) * shares
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    part_of, empty = np.empty(len(sizes), dtype=np.int64), np.ones(len(shares), dtype=bool)
    for done, group in enumerate(order):
        mine = slice(starts[group], starts[group + 1])
        stratum, rows = pairs[mine] % height, counts[mine, None]
        change = (rows * (rows - 2 * wanted[stratum])).sum(axis=0) + sizes[group] * (sizes[group] - 2 * wanted_rows)
        if len(order) - done <= empty.sum():  # no part is to stay empty
            change[~empty] = np.inf
        part = int(change.argmin())
        wanted[stratum, part] -= rows[:, 0]
        wanted_rows[part] -= sizes[group]
        part_of[group], empty[part] = part, False
    return part_of[groups]
