"""A folder of images, a subfolder a class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from datamodules.sources.base import SPLITS, Source, SplitName
from datamodules.sources.cutting import cut
from datamodules.sources.images import ImageMode, ImageSplit
from datamodules.targets import Categorical, Target


class Folder(Source):
    """Images in files, a subfolder a class, for one task; several tasks, as Office-Home's domains, are several sources.

    The images of a class lie in `path/<class>/`, at any depth, and are split by `fractions` with every class in the
    same proportion; or they are split already, into `path/train/<class>/`, `path/val/<class>/` and
    `path/test/<class>/`. Without `path/val` or `path/test`, that split is cut from `path/train` in the proportion of
    the fractions. The classes are called after their folders, and ordered by name. Files with other endings than those
    of images are left out.

    Args:
        path: The folder.
        task: Name of the task; the folder's name if it is left out.
        mode: "RGB" for three channels, "L" for grey.
        fractions: Shares of training, validation and test.
        seed: Which images go into which split. Not the seed of the training run.

    Raises:
        ValueError: There is no such folder, fewer than two classes, or one without an image in training.
    """

    def __init__(
        self,
        path: str,
        task: str | None = None,
        mode: ImageMode = "RGB",
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
    ) -> None:
        self.root, self.mode, self.task = Path(path).expanduser(), mode, task or Path(path).resolve().name
        if not self.root.is_dir():
            raise ValueError(f"path: the folder must be there, found none at {self.root}")
        folders = _folders(self.root)
        classes = _classes(folders)
        self.targets: dict[str, Target] = {self.task: Categorical(classes)}
        files = {name: _files(folder, classes) for name, folder in folders.items()}
        paths, labels = files["train"]
        counts = torch.bincount(labels, minlength=len(classes))
        if not counts.all():
            empty = folders["train"] / classes[int(counts.argmin())]
            raise ValueError(f"{empty}: a class must have an image ({', '.join(IMG_EXTENSIONS)}), found none")
        for name, rows in cut(list(files), fractions, labels, seed).items():
            files[name] = [paths[row] for row in rows.tolist()], labels[rows]
        self._files = files

    def split(self, name: SplitName) -> ImageSplit:
        """Inputs are PIL images of the size that they have in their files."""
        paths, labels = self._files[name]
        relative = [Path(path).relative_to(self.root).as_posix() for path in paths]
        return ImageSplit(self.root, relative, {self.task: labels}, mode=self.mode)


def _folders(root: Path) -> dict[SplitName, Path]:
    """Split → the folder of its classes; `root` itself if the images are not split yet."""
    inside = _subfolders(root)
    only_splits = inside <= set(SPLITS)
    if "train" not in inside or not (only_splits or _subfolders(root / "train")):  # a class may be called "train"
        return {"train": root}
    if not only_splits:
        raise ValueError(f"{root}: folders beside train must be val and test, found {sorted(inside - set(SPLITS))}")
    return {name: root / name for name in SPLITS if name in inside}


def _subfolders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def _classes(folders: dict[SplitName, Path]) -> tuple[str, ...]:
    """The classes of training, which those of the other splits must be among."""
    for folder in folders.values():
        if not _subfolders(folder):
            raise ValueError(f"{folder}: must have a folder for each class, found none")
    classes, _ = find_classes(folders["train"])
    if len(classes) < 2:
        raise ValueError(f"{folders['train']}: must have folders of at least two classes, found {classes}")
    for folder in folders.values():
        if unknown := sorted(_subfolders(folder) - set(classes)):
            raise ValueError(f"{folder}: classes must be among those of {folders['train']}, found {unknown}")
    return tuple(classes)


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[str], Tensor]:
    """The images, ordered by class and path, and the index of their class."""
    numbers = {name: number for number, name in enumerate(classes)}
    found = make_dataset(folder, numbers, IMG_EXTENSIONS, allow_empty=True)
    return [path for path, _ in found], torch.tensor([label for _, label in found], dtype=torch.int64)
