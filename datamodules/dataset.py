"""One split of all sources, as one dataset of draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import Inputs, MultiTaskBatch, map_inputs
from datamodules.reading import Reader
from datamodules.sampling import Draw
from datamodules.sources import Split


@dataclass
class Part:
    """A batch's rows of one source, as far as they could be read.

    Attributes:
        inputs: [B, ...].
        labels: task → [B, ...].
        ids: [B] index of each row in the split of all sources.
        feeds: [T, B] bool.
    """

    inputs: Inputs
    labels: dict[str, Tensor]
    ids: Tensor
    feeds: Tensor


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
        self.ends = torch.tensor([len(split) for split in self.splits]).cumsum(0)
        self.starts = [0, *self.ends.tolist()]
        self.labelled = torch.stack([torch.cat([_labelled(split, task) for split in self.splits]) for task in tasks])

    def __len__(self) -> int:
        """Number of rows."""
        return self.labelled.shape[1]

    def keys(self, ids: Tensor) -> tuple[list[str], list[str]]:
        """The sources of the rows `ids` [B], and what the user calls them there, for the table of predictions."""
        places = torch.searchsorted(self.ends, ids.cpu(), right=True).tolist()
        located = list(zip(places, ids.tolist(), strict=True))
        keys = [self.splits[source].key(row - self.starts[source]) for source, row in located]
        return [self.sources[source] for source in places], keys

    def __getitem__(self, draw: Draw) -> MultiTaskBatch:
        """The batch that `draw` describes, its rows sorted by source, those left out that cannot be read.

        Raises:
            UnreadableRowError: A row cannot be read and is not to be skipped.
        """
        parts: list[Part] = []
        skipped: list[str] = []
        for source, ids, visits, feeds in self._by_source(draw):
            read = self.reader(self.splits[source], ids - self.starts[source], visits, source)
            skipped += read.skipped
            if read.inputs is not None:
                parts.append(Part(read.inputs, read.labels, ids[read.kept], feeds[:, read.kept]))
        if not parts:
            none = torch.empty(0, dtype=torch.int64)
            return MultiTaskBatch(none, {}, {}, dict(zip(self.tasks, draw.counts, strict=True)), none, skipped)
        rows = {
            task: fed.nonzero().squeeze(1)
            for task, fed in zip(self.tasks, _cat([part.feeds for part in parts], dim=1), strict=True)
        }
        present = {task: each for task, each in rows.items() if len(each)}
        return MultiTaskBatch(
            inputs=map_inputs(lambda *inputs: _cat(list(inputs)), *(part.inputs for part in parts)),
            targets={task: self._targets(task, rows, parts) for task, rows in present.items()},
            rows=present,
            counts=dict(zip(self.tasks, draw.counts, strict=True)),
            ids=_cat([part.ids for part in parts]),
            skipped=skipped,
        )

    def _targets(self, task: str, rows: Tensor, parts: list[Part]) -> Tensor:
        """Labels [B_t, ...] of the batch's `rows` [B_t]: of parts that carry the task, one after the other."""
        if len(parts) == 1:
            return parts[0].labels[task].index_select(0, rows)
        fed = self.tasks.index(task)
        return torch.cat([part.labels[task][part.feeds[fed]] for part in parts if task in part.labels])

    def _by_source(self, draw: Draw) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """The sources that the draw has rows of, and these rows, their visits and what they feed."""
        if len(self.splits) == 1:
            yield 0, draw.rows, draw.visits, draw.feeds
            return
        source_of = torch.searchsorted(self.ends, draw.rows, right=True)
        for source in sorted(set(source_of.tolist())):
            mine = source_of == source
            yield source, draw.rows[mine], draw.visits[mine], draw.feeds[:, mine]


def _labelled(split: Split, task: str) -> Tensor:
    return split.labelled.get(task, torch.zeros(len(split), dtype=torch.bool))


def _cat(tensors: list[Tensor], dim: int = 0) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)
