"""Folds of an own source whose labels of a value a pixel are read row by row, and not held in memory."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import Source, Split, SplitName
from datamodules.splits.folds import Folds
from datamodules.targets import Categorical, DenseCategorical, Target

ROWS = {"train": 9, "val": 3, "test": 2}
STARTS = {"train": 0, "val": 100, "test": 200}


class Scenes(Source):
    """Rows that count from `STARTS`: an image and a map of the row's number, and a kind that is held in memory.

    Args:
        fast: Whether many rows are given at once.
        without: The split that does not carry the maps.
    """

    def __init__(self, fast: bool = False, without: str | None = None) -> None:
        self.targets: dict[str, Target] = {"map": DenseCategorical(("a", "b", "c")), "kind": Categorical(("x", "y"))}
        self.fast, self.without = fast, without

    def split(self, name: SplitName) -> Split:
        return (FastRead if self.fast else Read)(STARTS[name], ROWS[name], name != self.without)


class Read(Split):
    def __init__(self, start: int, rows: int, maps: bool) -> None:
        super().__init__(rows, {"kind": (start + torch.arange(rows)) % 2})
        self.start, self.maps = start, maps
        if maps:
            self.labelled["map"] = torch.arange(rows) % 4 != 1

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        value = self.start + row
        maps = {"map": torch.full((2, 3), value % 3)} if self.maps else {}
        return torch.full((1, 2, 3), float(value)), {**maps, **self.labels_of(row)}


class FastRead(Read):
    def __getitems__(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, labels = zip(*(self[row] for row in rows.tolist()), strict=True)
        return torch.stack(inputs), {task: torch.stack([each[task] for each in labels]) for task in labels[0]}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("stratify", [None, "kind"])
def test_labels_that_are_read_stay_with_their_rows(fast: bool, stratify: str | None) -> None:
    held_out = []
    for fold in range(3):
        data = MultiTaskDataModule({"s": Scenes(fast)}, folds=Folds(3, fold, stratify))
        for name in ("train", "val"):
            (batch,) = data.train_dataloader() if name == "train" else data.val_dataloader()
            values = batch.inputs[:, 0, 0, 0].long()
            assert torch.equal(batch.targets["kind"], values[batch.rows["kind"]] % 2)
            assert torch.equal(batch.targets["map"][:, 1, 2], values[batch.rows["map"]] % 3)
            assert batch.rows["map"].tolist() == ((values % 100) % 4 != 1).nonzero().flatten().tolist()
        held_out += values.tolist()
    assert sorted(held_out) == [*range(9), *range(100, 103)]


@pytest.mark.parametrize("fast", [False, True])
def test_maps_of_one_split_alone_are_refused(fast: bool) -> None:
    message = "data.sources.s: target 'map', which is read row by row: must be in both train and val for folds"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}, found it in 'train' alone$"):
        MultiTaskDataModule({"s": Scenes(fast, without="val")}, folds=Folds(3, 0))
