"""One split of all sources, as one dataset of draws."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import MultiTaskBatch, map_inputs
from datamodules.reading import Reader
from datamodules.sampling import Draw
from datamodules.sources import Split, UnreadableRowError


class MultiTaskDataset(Dataset[MultiTaskBatch]):
    """One split of all sources, indexed by draws: rows count through the sources one after the other.

    Args:
        splits: The same split of every source.
        tasks: All tasks, in their fixed order; a source need not carry each of them.
        reader: How rows become tensors.
    """

    def __init__(self, splits: list[Split], tasks: list[str], reader: Reader | None = None) -> None:
        self.splits, self.tasks, self.reader = splits, tasks, reader or Reader()
        self.ends = torch.tensor([len(split) for split in splits]).cumsum(0)
        self.labelled = torch.stack([torch.cat([_labelled(split, task) for split in splits]) for task in tasks])

    def __len__(self) -> int:
        """Number of rows."""
        return self.labelled.shape[1]

    def keys(self, ids: Tensor) -> list[str]:
        """What the user calls the rows `ids` [B] in their own data, for the table of predictions."""
        sources = torch.searchsorted(self.ends, ids.cpu(), right=True).tolist()
        starts = self.ends - torch.tensor([len(split) for split in self.splits])
        return [
            self.splits[source].key(row - int(starts[source]))
            for source, row in zip(sources, ids.tolist(), strict=True)
        ]

    def __getitem__(self, draw: Draw) -> MultiTaskBatch:
        """The batch that `draw` describes, its rows sorted by source, those left out that cannot be read.

        Raises:
            UnreadableRowError: A row cannot be read and is not to be skipped, or none of the batch can.
        """
        source_of, order = torch.searchsorted(self.ends, draw.rows, right=True).sort(stable=True)
        ids, visits, feeds = draw.rows[order], draw.visits[order], draw.feeds[:, order]
        inputs, labels, kept, skipped = [], [], [], []
        for source in sorted(set(source_of.tolist())):
            split, mine = self.splits[source], source_of == source
            read = self.reader(split, ids[mine] - (self.ends[source] - len(split)), visits[mine])
            fed = feeds[:, mine][:, read.kept]
            labels.append({task: y[fed[self.tasks.index(task)]] for task, y in read.labels.items()})
            inputs += [read.inputs] if read.inputs is not None else []
            kept.append(read.kept)
            skipped += read.skipped
        if not inputs:
            raise UnreadableRowError(f"a batch must have a row that can be read, found none: {skipped[0]}")
        ids, feeds = ids[torch.cat(kept)], feeds[:, torch.cat(kept)]
        present = [task for t, task in enumerate(self.tasks) if feeds[t].any()]
        return MultiTaskBatch(
            inputs=inputs[0] if len(inputs) == 1 else map_inputs(lambda *parts: torch.cat(parts), *inputs),
            targets={task: torch.cat([part[task] for part in labels if task in part]) for task in present},
            rows={task: feeds[self.tasks.index(task)].nonzero().squeeze(1) for task in present},
            counts=dict(zip(self.tasks, draw.counts, strict=True)),
            ids=ids,
            skipped=skipped,
        )


def _labelled(split: Split, task: str) -> Tensor:
    return split.labelled.get(task, torch.zeros(len(split), dtype=torch.bool))
