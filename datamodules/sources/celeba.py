"""CelebA, faces with forty attributes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.images import ImageSplit
from datamodules.sources.split import SPLITS, SplitName
from datamodules.targets import Binary, Target

ATTRIBUTES, PARTITION, IMAGES = "list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"
INSIDE = ("", "celeba", "Anno", "Eval", "Img")  # as torchvision and as the authors lay the files out
VALUES = {"-1": False, "1": True}


class CelebA(Source):
    """CelebA (Liu et al. 2015): faces with 40 attributes, each a task of no and yes; the official partition.

    Sener & Koltun (2018) and those who follow them take every attribute as a task. The images are the aligned ones,
    218 pixels high and 178 wide, and are opened when they are needed.

    Args:
        path: The folder with `list_attr_celeba.txt`, `list_eval_partition.txt` and the folder `img_align_celeba`; they
            may also be in the folder `celeba`, or in `Anno`, `Eval` and `Img`.
        attributes: Those that are tasks, by their names in the file; all if it is left out.

    Raises:
        ValueError: A file is missing or broken, the two do not agree, or there is no such attribute.
    """

    def __init__(self, path: str, attributes: list[str] | None = None) -> None:
        root = Path(path).expanduser()
        names, images, values = _attributes(_find(root, ATTRIBUTES))
        chosen = names if attributes is None else attributes
        for name in chosen:
            if name not in names:
                raise DataError("attributes", f"must be among {', '.join(names)}", repr(name))
        parts = _partition(_find(root, PARTITION), images)
        self.targets: dict[str, Target] = {name: Binary() for name in chosen}
        self._root, self._images = _find(root, IMAGES), images
        self._values = {name: values[:, names.index(name)].float() for name in chosen}
        self._rows = {name: (parts == number).nonzero().squeeze(1) for number, name in enumerate(SPLITS)}

    def split(self, name: SplitName) -> ImageSplit:
        """Inputs are PIL images, as large as in their files."""
        rows = self._rows[name]
        labels = {task: values[rows] for task, values in self._values.items()}
        return ImageSplit(self._root, [self._images[row] for row in rows.tolist()], labels)


def _find(root: Path, name: str) -> Path:
    for inner in INSIDE:
        if (root / inner / name).exists():
            return root / inner / name
    raise DataError("path", f"{name} must be in the folder", f"none in {root}")


def _attributes(path: Path) -> tuple[list[str], list[str], Tensor]:
    """Names of the attributes, image files [N], and which attributes an image has, bool [N, attributes].

    A line with the number of images, a line of names, then a line an image: its file, and -1 or 1 for each attribute.
    """
    count, header, *lines = [*path.read_text().splitlines(), "", ""]  # an empty file has no first two lines
    names, lines = header.split(), lines[:-2]
    if count.strip() != str(len(lines)):
        raise DataError(path, f"the first line must be the number of rows, {len(lines)}", repr(count.strip()))
    images, rows = [], []
    for row, line in enumerate(lines):
        image, *cells = line.split() or [""]
        if len(cells) != len(names):
            raise DataError(path, f"row {row}: must have {len(names)} attributes", len(cells))
        try:
            rows.append([VALUES[cell] for cell in cells])
        except KeyError as error:
            raise DataError(path, f"row {row}: an attribute must be -1 or 1", error) from None
        images.append(image)
    return names, images, torch.tensor(rows)


def _partition(path: Path, images: list[str]) -> Tensor:
    """The number [N] of each image's split: lines of an image file and 0, 1 or 2, in the order of the attributes."""
    lines = path.read_text().splitlines()
    if len(lines) != len(images):
        raise DataError(path, f"must have the {len(images)} rows of {ATTRIBUTES}", len(lines))
    parts = []
    for row, (line, image) in enumerate(zip(lines, images, strict=True)):
        name, *part = line.split() or [""]
        if name != image:
            raise DataError(path, f"row {row}: must be of the image {image}, as in {ATTRIBUTES}", repr(name))
        if part not in (["0"], ["1"], ["2"]):
            raise DataError(path, f"row {row}: must end with 0, 1 or 2", repr(" ".join(part)))
        parts.append(int(part[0]))
    return torch.tensor(parts)
