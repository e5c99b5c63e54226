"""One split of all sources, as one dataset of draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import Inputs, MultiTaskBatch, map_inputs
from datamodules.reading.reader import Reader
from datamodules.sampling import Booleans, Draw, Integers
from datamodules.sources import Split


@dataclass
class Part:
    """A batch's rows of one source, as far as they could be read.

    Attributes:
        inputs: [B, ...].
        labels: task → [B, ...].
        ids: [B] index of each row in the split of all sources.
        feeds: [T, B].
    """

    inputs: Inputs
    labels: dict[str, Tensor]
    ids: Integers
    feeds: Booleans


class MultiTaskDataset(Dataset[MultiTaskBatch]):
    """One split of all sources, indexed by draws: rows count through the sources one after the other.

    Args:
        splits: Source → the same split of each.
        tasks: All tasks, in their fixed order; a source need not carry each of them.
        reader: How rows become tensors.
    """

    def __init__(self, splits: Mapping[str, Split], tasks: list[str], reader: Reader | None = None) -> None:
        self.sources, self.splits = list(splits), list(splits.values())
        self.tasks, self.reader = tasks, reader or Reader()
        self.ends = np.cumsum([len(split) for split in self.splits])
        self.starts = [0, *self.ends.tolist()]
        self.labelled = torch.stack([torch.cat([_labelled(split, task) for split in self.splits]) for task in tasks])

    def __len__(self) -> int:
        """Number of rows."""
        return self.labelled.shape[1]

    def keys(self, ids: Tensor) -> tuple[list[str], list[str]]:
        """The sources of the rows `ids` [B], and what the user calls them there, for the table of predictions."""
        places = np.searchsorted(self.ends, ids.cpu().numpy(), side="right").tolist()
        return [self.sources[source] for source in places], [split.key(row) for split, row in self.located(ids)]

    def located(self, ids: Tensor) -> list[tuple[Split, int]]:
        """Which split each of the rows `ids` [B] is of, and where it is in it."""
        places = np.searchsorted(self.ends, ids.cpu().numpy(), side="right").tolist()
        return [(self.splits[place], row - self.starts[place]) for place, row in zip(places, ids.tolist(), strict=True)]

    def fingerprint(self) -> str:
        """A hash of the rows' names and labels, equal wherever their files are; maps in files are not read for it."""
        of = hashlib.sha256()
        for source, split in zip(self.sources, self.splits, strict=True):
            of.update("\0".join([source, *split.keys()]).encode())
            for task in sorted(filter(split.holds, split.labelled)):
                of.update(f"\0{task}".encode())
                for x in (split.labelled[task], split.labels(task)):
                    of.update(x.numpy().tobytes())
        return of.hexdigest()

    def __getitem__(self, draw: Draw) -> MultiTaskBatch:
        """The batch that `draw` describes, its rows sorted by source, those left out that cannot be read.

        Raises:
            UnreadableRowError: A row cannot be read and is not to be skipped.
        """
        parts: list[Part] = []
        skipped: list[str] = []
        for source, part in self._by_source(draw):
            here, visits = torch.from_numpy(part.rows - self.starts[source]), torch.from_numpy(part.visits)
            read = self.reader(self.splits[source], here, visits, source)
            skipped += read.skipped
            if read.inputs is not None:
                parts.append(Part(read.inputs, read.labels, part.rows[read.kept], part.feeds[:, read.kept]))
        counts = dict(zip(self.tasks, draw.counts, strict=True))
        if not parts:
            none = torch.empty(0, dtype=torch.int64)
            return MultiTaskBatch(none, {}, {}, counts, none, skipped)
        ids, feeds = _joined([part.ids for part in parts]), _joined([part.feeds for part in parts])
        rows: dict[str, Tensor] = {}
        targets: dict[str, Tensor] = {}
        for number, task in enumerate(self.tasks):
            fed = feeds[number].nonzero()[0]
            if len(fed):
                rows[task] = torch.from_numpy(fed)
                targets[task] = _targets(task, number, rows[task], parts)
        inputs = map_inputs(lambda *inputs: _cat(list(inputs)), *(part.inputs for part in parts))
        return MultiTaskBatch(inputs, targets, rows, counts, torch.from_numpy(ids), skipped)

    def _by_source(self, draw: Draw) -> Iterator[tuple[int, Draw]]:
        """The sources that the draw has rows of, and its part of each."""
        if len(self.splits) == 1 and len(draw.rows):
            yield 0, draw
            return
        source_of = np.searchsorted(self.ends, draw.rows, side="right")
        for source in np.unique(source_of).tolist():
            mine = source_of == source
            yield source, Draw(draw.rows[mine], draw.visits[mine], draw.feeds[:, mine], draw.counts)


def _targets(task: str, number: int, rows: Tensor, parts: list[Part]) -> Tensor:
    """Labels [B_t, ...] of the batch's `rows` [B_t]: of parts that carry the task, one after the other."""
    if len(parts) == 1:
        labels = parts[0].labels[task]
        return labels if rows.shape == parts[0].ids.shape else labels.index_select(0, rows)
    return torch.cat([part.labels[task][part.feeds[number]] for part in parts if task in part.labels])


def _labelled(split: Split, task: str) -> Tensor:
    return split.labelled.get(task, torch.zeros(len(split), dtype=torch.bool))


def _cat(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays [..., B] as one: of all the rows."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
