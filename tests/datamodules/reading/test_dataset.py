"""One split of all sources."""

from pathlib import Path

import torch

from datamodules.reading.dataset import MultiTaskDataset
from datamodules.sources import ImageSplit, TensorSplit


def test_rows_are_called_what_their_own_source_calls_them() -> None:
    label = {"y": torch.zeros(2)}
    pictures = ImageSplit(Path("nowhere"), ["a.png", "b.png"], label)
    dataset = MultiTaskDataset({"a": pictures, "b": TensorSplit(torch.zeros(2, 3), label), "c": pictures}, ["y"])
    assert dataset.keys(torch.tensor([5, 0, 2, 3, 1])) == (
        ["c", "a", "b", "b", "a"],
        ["b.png", "a.png", "0", "1", "b.png"],
    )
