"""CIFAR-100 as twenty tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.cutting import cut
from datamodules.sources.plain_pickle import read_arrays
from datamodules.sources.split import Split, SplitName
from datamodules.targets import Categorical, Target

FOLDER = "cifar-100-python"
SIDE, CHANNELS = 32, 3
CLASSES = 5  # fine classes of a superclass


class CIFAR100Superclasses(Source):
    """CIFAR-100 as 20 tasks: of each superclass, which of its five classes an image shows.

    Rosenbaum et al., "Routing Networks" (2018), and Yu et al., "Gradient Surgery for Multi-Task Learning" (PCGrad,
    2020). Every image carries one task, its superclass; the classes of a task are in the order of the file's own
    indices. The 10,000 images of the file `test` are for the test. The papers have no validation split: here it is a
    share of the 50,000 images of `train`, drawn from the seed, of every class alike.

    Args:
        path: The folder `cifar-100-python` with the files `train`, `test` and `meta` of the python version, or the
            folder that it is in. They are pickles: read as arrays and plain values, and refused if they hold code.
        val_share: Share of the file `train` that is for validation.
        seed: Which images are for validation. Not the seed of the training run.

    Raises:
        ValueError: A file is missing or broken, holds code, or does not fit the others; or there is no such share.
    """

    def __init__(self, path: str, val_share: float = 0.1, seed: int = 0) -> None:
        if not 0 < val_share < 1:
            raise DataError("val_share", "must be greater than 0 and less than 1", val_share)
        root = Path(path).expanduser()
        root = root / FOLDER if (root / FOLDER).is_dir() else root
        coarse, fine = read_arrays(root / "meta", {"coarse_label_names": list, "fine_label_names": list}).values()
        train, test = (_File(root / name, coarse, fine) for name in ("train", "test"))
        members = _members(train, test, coarse, fine)
        self.targets: dict[str, Target] = {
            task: Categorical(tuple(fine[index] for index in classes))
            for task, classes in zip(coarse, members.tolist(), strict=True)
        }
        place = torch.empty(len(fine), dtype=torch.int64)  # of a fine class among the five
        place[members] = torch.arange(CLASSES)
        rows = cut(["train", "test"], (1 - val_share, val_share, 0), train.fine, seed)
        self._splits = {
            "train": _split(train, rows["train"], place, coarse),
            "val": _split(train, rows["val"], place, coarse),
            "test": _split(test, torch.arange(len(test.fine)), place, coarse),
        }

    def split(self, name: SplitName) -> PixelSplit:
        """Inputs are [3, 32, 32] of bytes, [0, 1] where nothing transforms them."""
        return self._splits[name]


class PixelSplit(Split):
    """Images of one size held in memory as bytes, a quarter of what real numbers take.

    Args:
        pixels: [N, C, H, W], uint8.
        file: Name of the file that they are from.
        rows: [N] their rows in that file.
        labels: task → [N].
        labelled: task → [N] bool.
    """

    def __init__(
        self, pixels: Tensor, file: str, rows: Tensor, labels: dict[str, Tensor], labelled: dict[str, Tensor]
    ) -> None:
        super().__init__(len(pixels), labels, labelled)
        self.pixels, self.file, self.rows = pixels, file, rows

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """An image [C, H, W] of bytes, and its labels."""
        return self.pixels[row], self.labels_of(row)

    def __getitems__(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images [B, C, H, W] in [0, 1] and labels [B] of `rows` [B]."""
        images = self.pixels.index_select(0, rows).to(torch.get_default_dtype()) / 255
        return images, {task: labels.index_select(0, rows) for task, labels in self._labels.items()}

    def name(self, row: int) -> str:
        """The row in the file, and the file."""
        return f"row {self.key(row)} of {self.file}"

    def key(self, row: int) -> str:
        """The row in the file."""
        return str(int(self.rows[row]))


class _File:
    """The file `train` or `test`: pixels [N, 3, 32, 32], and the superclass and class [N] of each image."""

    def __init__(self, path: Path, coarse: list[str], fine: list[str]) -> None:
        self.path = path
        content = read_arrays(path, {"data": np.ndarray, "coarse_labels": list, "fine_labels": list})
        data = content["data"]
        if data.ndim != 2 or data.shape[1] != CHANNELS * SIDE * SIDE:
            raise DataError(path, f"data must have the shape (N, {CHANNELS * SIDE * SIDE})", data.shape)
        self.pixels = torch.from_numpy(data.reshape(-1, CHANNELS, SIDE, SIDE))
        self.coarse = self._labels("coarse_labels", content["coarse_labels"], len(coarse))
        self.fine = self._labels("fine_labels", content["fine_labels"], len(fine))

    def _labels(self, key: str, found: list[Any], classes: int) -> Tensor:
        if len(found) != len(self.pixels):
            raise DataError(self.path, f"{key} must be as many as the {len(self.pixels)} images", len(found))
        for row, label in enumerate(found):
            if not isinstance(label, int) or not 0 <= label < classes:
                raise DataError(
                    self.path, f"row {row}: {key} must be class indices from 0 to {classes - 1}", repr(label)
                )
        return torch.tensor(found, dtype=torch.int64)


def _members(train: _File, test: _File, coarse: list[str], fine: list[str]) -> Tensor:
    """The fine classes of each superclass, ascending: [20, 5]."""
    owner = torch.full((len(fine),), -1)
    owner[train.fine.flip(0)] = train.coarse.flip(0)  # that of a class's first row
    _refuse_others(train, owner, coarse, fine)
    counts = torch.bincount(owner[owner >= 0], minlength=len(coarse))
    if (counts != CLASSES).any():
        index = int((counts != CLASSES).nonzero()[0])
        raise DataError(
            train.path,
            f"images must be of {CLASSES} classes of each superclass",
            f"{int(counts[index])} of {coarse[index]!r}",
        )
    _refuse_others(test, owner, coarse, fine)
    return torch.stack([(owner == index).nonzero().squeeze(1) for index in range(len(coarse))])


def _refuse_others(file: _File, owner: Tensor, coarse: list[str], fine: list[str]) -> None:
    """Refuse a row whose class is of another superclass than `owner` [100] says."""
    wrong = (owner[file.fine] != file.coarse).nonzero()
    if len(wrong):
        row = int(wrong[0])
        name, found, owned = fine[file.fine[row]], coarse[file.coarse[row]], coarse[owner[file.fine[row]]]
        raise DataError(
            file.path, f"row {row}: {name!r} must be in {owned!r}, as its first image in train is", f"in {found!r}"
        )


def _split(file: _File, rows: Tensor, place: Tensor, coarse: list[str]) -> PixelSplit:
    labels = dict.fromkeys(coarse, place[file.fine[rows]])  # one tensor: where a row lacks the task, it is not read
    labelled = {task: file.coarse[rows] == index for index, task in enumerate(coarse)}
    return PixelSplit(file.pixels[rows], file.path.name, rows, labels, labelled)
