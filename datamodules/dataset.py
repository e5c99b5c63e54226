"""One split of all sources, as one dataset of draws."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import MultiTaskBatch, map_inputs
from datamodules.sampling import Draw
from datamodules.sources import Split


class MultiTaskDataset(Dataset[MultiTaskBatch]):
    """One split of all sources, indexed by draws: rows count through the sources one after the other.

    Args:
        splits: The same split of every source.
        tasks: All tasks, in their fixed order; a source need not carry each of them.
    """

    def __init__(self, splits: list[Split], tasks: list[str]) -> None:
        self.splits, self.tasks = splits, tasks
        self.ends = torch.tensor([len(split) for split in splits]).cumsum(0)
        self.labelled = torch.stack([torch.cat([_labelled(split, task) for split in splits]) for task in tasks])

    def __len__(self) -> int:
        """Number of rows."""
        return self.labelled.shape[1]

    def __getitem__(self, draw: Draw) -> MultiTaskBatch:
        """The batch that `draw` describes, its rows sorted by source."""
        source_of, order = torch.searchsorted(self.ends, draw.rows, right=True).sort(stable=True)
        ids, feeds = draw.rows[order], draw.feeds[:, order]
        inputs, labels = [], []
        for source in sorted(set(source_of.tolist())):
            split, mine = self.splits[source], source_of == source
            rows = ids[mine] - (self.ends[source] - len(split))
            part, labels_of = split.__getitems__(rows.tolist())
            inputs.append(part)
            labels.append({task: y[feeds[self.tasks.index(task), mine]] for task, y in labels_of.items()})
        present = [task for t, task in enumerate(self.tasks) if feeds[t].any()]
        return MultiTaskBatch(
            inputs=inputs[0] if len(inputs) == 1 else map_inputs(lambda *parts: torch.cat(parts), *inputs),
            targets={task: torch.cat([part[task] for part in labels if task in part]) for task in present},
            rows={task: feeds[self.tasks.index(task)].nonzero().squeeze(1) for task in present},
            counts=dict(zip(self.tasks, draw.counts, strict=True)),
            ids=ids,
        )


def _labelled(split: Split, task: str) -> Tensor:
    return split.labelled.get(task, torch.zeros(len(split), dtype=torch.bool))
