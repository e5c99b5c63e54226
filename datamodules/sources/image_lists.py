"""Images in lists, a list a split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from datamodules.contract import Columns
from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.images import ImageMode, ImageSplit
from datamodules.sources.split import SPLITS, SplitName
from datamodules.targets import Categorical, Target


class ImageLists(Source):
    """Images of one task in three lists, as LibMTL's of Office-31 and Office-Home; a source a domain.

    The lists are `<lists>_train.txt`, `<lists>_val.txt` and `<lists>_test.txt`. A line is an image file and the index
    of its class, as in `amazon/images/back_pack/frame_0065.jpg 0`. Classes are called after the folders of their
    images.

    Args:
        path: The folder that the files in the lists are relative to.
        lists: How the lists' paths begin, as in `data_txt/office-31/amazon`.
        task: Name of the task; the last part of `lists` if it is left out.
        mode: "RGB" for three channels, "L" for grey. Images of 16 bits are scaled to 8 bits, 65535 to 255.

    Raises:
        ValueError: A list is missing or broken, a class index is not one of training, a class is in two folders, an
            image is in two lists, or the name cannot name the task.
    """

    def __init__(self, path: str, lists: str, task: str | None = None, mode: ImageMode = "RGB") -> None:
        self.root, self.mode = Path(path).expanduser(), mode
        self.task, self.columns = task or Path(lists).name, Columns(mode=mode)
        if not re.fullmatch(r"[\w-]+", self.task):
            raise DataError(
                "task",
                "must be of letters, digits, '_' and '-', and be given where the lists' name is not",
                repr(self.task),
            )
        self._lists = {name: _read(Path(f"{Path(lists).expanduser()}_{name}.txt")) for name in SPLITS}
        self.targets: dict[str, Target] = {self.task: Categorical(_classes(self._lists))}
        _refuse_shared(self._lists)

    def split(self, name: SplitName) -> ImageSplit:
        """Inputs are PIL images of the size that they have in their files."""
        listed = self._lists[name]
        return ImageSplit(self.root, listed.images, {self.task: torch.tensor(listed.labels)}, mode=self.mode)


@dataclass
class _List:
    """A list: its file, image files [N] and class indices [N]."""

    path: Path
    images: list[str]
    labels: list[int]


def _read(path: Path) -> _List:
    if not path.is_file():
        raise DataError(path, "the list must be there", "none")
    images, labels = [], []
    for row, line in enumerate(path.read_text().splitlines()):
        image, _, label = line.rstrip().rpartition(" ")
        if not image or not re.fullmatch("[0-9]+", label):
            raise DataError(path, f"row {row}: must be an image file and a class index", repr(line))
        images.append(image)
        labels.append(int(label))
    if not images:
        raise DataError(path, "must have a row", "none")
    return _List(path, images, labels)


def _classes(lists: dict[SplitName, _List]) -> tuple[str, ...]:
    """The folder of each class, in the order of the indices."""
    train = lists["train"]
    present = sorted(set(train.labels))
    if present != list(range(len(present))):
        gap = next(index for index, label in enumerate(present) if index != label)
        raise DataError(train.path, "class indices must have no gap", f"{present[-1]}, but no row of {gap}")
    folders: dict[int, str] = {}
    for listed in lists.values():
        for row, (image, label) in enumerate(zip(listed.images, listed.labels, strict=True)):
            folder = PurePosixPath(image).parent.name
            if label >= len(present):
                raise DataError(
                    listed.path,
                    f"row {row}: a class index must be from 0 to {len(present) - 1}, as in {train.path.name}",
                    label,
                )
            if folders.setdefault(label, folder) != folder:
                raise DataError(
                    listed.path,
                    f"row {row}: images of class {label} must be in a folder {folders[label]!r}, as those before",
                    image,
                )
    return tuple(folders[label] for label in present)


def _refuse_shared(lists: dict[SplitName, _List]) -> None:
    seen: dict[str, Path] = {}
    for listed in lists.values():
        for row, image in enumerate(listed.images):
            if image in seen:
                raise DataError(
                    listed.path,
                    f"row {row}: an image must be listed once",
                    f"{image}, which is in {seen[image].name} too",
                )
            seen[image] = listed.path
