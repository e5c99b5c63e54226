"""A user's own dataset of torch, and what is in it."""

from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.sources import TorchDataset
from datamodules.targets import Categorical, Continuous, Target

KIND: dict[str, Target] = {"kind": Categorical(("a", "b", "c"))}
BOTH: dict[str, Target] = {**KIND, "size": Continuous("m")}


class Own(Dataset):
    """A list of items, counting how often it is read; an item that is an error is raised."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items, self.reads = items, 0
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        self.reads += 1
        if isinstance(self.items[row], Exception):
            raise self.items[row]
        return self.items[row]


def pairs(targets: list[Any]) -> list[Any]:
    return [(torch.full((2,), float(row)), target) for row, target in enumerate(targets)]


def source(items: list[Any], targets: dict[str, Target], **options: Any) -> TorchDataset:
    """The same dataset for all splits."""
    return TorchDataset(Own(items), targets, val=Own(items), test=Own(items), **options)
