"""Rows for training and validation, divided anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import Inputs, map_inputs
from datamodules.errors import DataError
from datamodules.sources.faults import rows_named
from datamodules.sources.split import Split, SplitName
from datamodules.splits.folds import Folds, strata_of
from datamodules.splits.splitting import Members, members_of
from datamodules.targets import Target


def folded_splits(
    given: Mapping[SplitName, Split], targets: Mapping[str, Target], folds: Folds
) -> dict[SplitName, Split]:
    """A fold of the rows of all `given` splits for validation, and the others for training.

    Args:
        given: What the source calls each split → the split.
        targets: task → what its label is.
        folds: Which fold.

    Raises:
        ValueError: There are more folds than rows or groups.
    """
    rows = torch.arange(sum(len(part) for part in given.values()))
    whole = JoinedSplit(given, rows)
    strata = whole.strata(folds.stratify, targets)
    held_out = folds.held_out(len(rows), strata, whole.groups, whole.members(targets))
    view = FastJoinedSplit if all(hasattr(part, "__getitems__") for part in given.values()) else JoinedSplit
    return {"train": view(given, rows[~held_out]), "val": view(given, rows[held_out])}


class JoinedSplit(Split):
    """Rows of several splits of a source.

    Args:
        parts: What the source calls each split → the split.
        rows: [N] rows, which count through the parts one after the other.

    Raises:
        ValueError: Labels that are read row by row are in some of the parts alone.
    """

    def __init__(self, parts: Mapping[SplitName, Split], rows: Tensor) -> None:
        tasks = dict.fromkeys(task for part in parts.values() for task in part.labelled)
        self._read = [task for task in tasks if not _held(parts, task)]
        columns = {task: _joined_labels(list(parts.values()), task) for task in tasks if task not in self._read}
        self._parts, self._joined = parts, rows
        self._ends = torch.tensor([len(part) for part in parts.values()]).cumsum(0)
        groups = [part.groups for part in parts.values() if part.groups is not None]
        super().__init__(
            len(rows),
            {task: labels[rows] for task, (labels, _) in columns.items()},
            {task: labelled[rows] for task, (_, labelled) in columns.items()},
            torch.cat(groups)[rows] if len(groups) == len(parts) else None,
        )
        self.labelled |= {
            task: torch.cat([part.labelled[task] for part in parts.values()])[rows] for task in self._read
        }

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """Input and labels of one row."""
        _, part, place = self._find(row)
        with rows_named(part, [place]):
            sample, labels = part[place]
        return sample, {**self.labels_of(row), **labels}  # all of a batch have the same tasks

    def strata(self, task: str | None, targets: Mapping[str, Target]) -> Tensor | None:
        """Class numbers [N] of a task, -1 without a label; None if no row carries it or it has no classes."""
        if task not in self._labels or task not in targets or not targets[task].exclusive:
            return None
        return strata_of(targets[task], self._labels[task], self.labelled[task])

    def members(self, targets: Mapping[str, Target]) -> list[Members]:
        """The classes of the rows, by task."""
        return members_of(targets, self._labels, self.labelled)

    def name(self, row: int) -> str:
        """What the source calls the row, and in which of its splits."""
        given, part, place = self._find(row)
        return f"{part.name(place)} (of {given!r} before folding)"

    def key(self, row: int) -> str:
        """What the source tells the row by."""
        _, part, place = self._find(row)
        return part.key(place)

    def keys(self) -> list[str]:
        """What the source tells the rows by."""
        joined = list(chain.from_iterable(part.keys() for part in self._parts.values()))
        return [joined[row] for row in self._joined.tolist()]

    def missing(self) -> list[int]:
        """Rows whose file is not there."""
        missing = torch.zeros(int(self._ends[-1]), dtype=torch.bool)
        for part, end in zip(self._parts.values(), self._ends, strict=True):
            missing[torch.tensor(part.missing(), dtype=torch.long) + (end - len(part))] = True
        return [int(row) for row in missing[self._joined].nonzero()]

    def check(self, targets: dict[str, Target]) -> None:
        """Refuse what the parts refuse."""
        for given, part in self._parts.items():
            try:
                part.check({task: targets[task] for task in part.labelled})
            except DataError as error:
                raise DataError(f"of {given!r} before folding, {error}") from error

    def _find(self, row: int) -> tuple[SplitName, Split, int]:
        """A row's split, and where it is in it."""
        joined = self._joined[row]
        number = int(torch.searchsorted(self._ends, joined, right=True))
        given, part = list(self._parts.items())[number]
        return given, part, int(joined - (self._ends[number] - len(part)))


class FastJoinedSplit(JoinedSplit):
    """Rows of splits that give many rows at once."""

    def __getitems__(self, rows: Tensor) -> tuple[Inputs, dict[str, Tensor]]:
        """Inputs [B, ...] and labels [B, ...] of `rows` [B]."""
        joined = self._joined[rows]
        number = torch.searchsorted(self._ends, joined, right=True)
        found = []
        part: Any  # one that has `__getitems__`
        for index, part in enumerate(self._parts.values()):
            mine = joined[number == index]
            if len(mine):
                places = mine - (self._ends[index] - len(part))
                with rows_named(part, places):
                    found.append(part.__getitems__(places))
        back = number.argsort(stable=True).argsort()
        labels = {task: values[rows] for task, values in self._labels.items()}
        labels |= {task: torch.cat([each[task] for _, each in found])[back] for task in self._read}
        return map_inputs(lambda *xs: torch.cat(xs)[back], *(inputs for inputs, _ in found)), labels


def _held(parts: Mapping[SplitName, Split], task: str) -> bool:
    """Whether all labels of a task are in memory; if not, every part must carry it, for no label can be made up."""
    carrying = {name: part for name, part in parts.items() if task in part.labelled}
    held = all(part.holds(task) for part in carrying.values())
    if not held and len(carrying) < len(parts):
        where = f"target {task!r}, which is read row by row"
        rule = f"must be in both {' and '.join(parts)} for folds"
        raise DataError(where, rule, f"it in {', '.join(map(repr, carrying))} alone")
    return held


def _joined_labels(parts: Sequence[Split], task: str) -> tuple[Tensor, Tensor]:
    """Labels [N, ...] of all rows of the parts, zero without one, and which rows carry one, bool [N]."""
    like = next(part.labels(task) for part in parts if task in part.labelled)
    labelled = [part.labelled.get(task, torch.zeros(len(part), dtype=torch.bool)) for part in parts]
    mask = torch.cat(labelled)
    labels = like.new_zeros(len(mask), *like.shape[1:])
    labels[mask] = torch.cat([part.labels(task) for part in parts if task in part.labelled])
    return labels, mask
