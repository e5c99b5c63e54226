"""A folder of images, a subfolder a class."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from datamodules.contract import Columns
from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.cutting import cut
from datamodules.sources.images import ImageMode, ImageSplit
from datamodules.sources.split import SplitName
from datamodules.targets import Categorical, Target

SPLIT_NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Folder(Source):
    """Images in files, a subfolder a class, for one task; several tasks, as Office-Home's domains, are several sources.

    The images of a class lie in `path/<class>/`, at any depth, and are split by `fractions` with every class in the
    same proportion; or they are split already, into `path/train/<class>/`, `path/val/<class>/` and
    `path/test/<class>/`, in small or capital letters, also as training, valid, validation and testing. Without a folder
    for validation or test, that split is cut from training in the proportion of the fractions. The classes are called
    after their folders, and ordered by name. Files with other endings than those of images are left out, and so is
    what is hidden: files and folders whose names begin with a dot.

    Args:
        path: The folder.
        task: Name of the task; the folder's name if it is left out.
        mode: "RGB" for three channels, "L" for grey. Images of 16 bits are scaled to 8 bits, 65535 to 255.
        fractions: Shares of training, validation and test.
        seed: Which images go into which split. Not the seed of the training run.

    Raises:
        ValueError: There is no such folder, fewer than two classes, or one without an image in training; or the
            folder's name cannot name the task.
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
            raise DataError("path", "the folder must be there", f"none at {self.root}")
        if not re.fullmatch(r"[\w-]+", self.task):
            raise DataError(
                "task",
                "must be of letters, digits, '_' and '-', and be given where the folder's name is not",
                repr(self.task),
            )
        folders = _folders(self.root)
        self.columns = Columns(mode=mode)
        classes = _classes(folders)
        self.targets: dict[str, Target] = {self.task: Categorical(classes)}
        files = {name: _files(folder, classes) for name, folder in folders.items()}
        paths, labels = files["train"]
        counts = torch.bincount(labels, minlength=len(classes))
        if not counts.all():
            empty = folders["train"] / classes[int(counts.argmin())]
            raise DataError(empty, f"a class must have an image ({', '.join(IMG_EXTENSIONS)})", "none")
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
    called = [(SPLIT_NAMES[name.lower()], name) for name in sorted(inside) if name.lower() in SPLIT_NAMES]
    folders = {split: root / name for split, name in called}
    only_splits = len(called) == len(inside)
    if "train" not in folders or not (only_splits or _subfolders(folders["train"])):  # a class may be called "train"
        return {"train": root}
    if not only_splits:
        others = sorted(inside - {name for _, name in called})
        raise DataError(root, f"folders beside {folders['train'].name} must be val and test", others)
    if len(folders) < len(called):
        raise DataError(root, "each split must have one folder", sorted(inside))
    return folders


def _subfolders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _classes(folders: dict[SplitName, Path]) -> tuple[str, ...]:
    """The classes of training, which those of the other splits must be among."""
    for folder in folders.values():
        if not _subfolders(folder):
            raise DataError(folder, "must have a folder for each class", "none")
    train = folders["train"]
    classes = sorted(_subfolders(train))
    if len(classes) < 2:
        raise DataError(train, "must have folders of at least two classes", classes)
    _refuse_unknown_splits(train, classes)
    for folder in folders.values():
        if unknown := sorted(_subfolders(folder) - set(classes)):
            raise DataError(folder, f"classes must be among those of {train}", unknown)
    return tuple(classes)


def _refuse_unknown_splits(folder: Path, classes: list[str]) -> None:
    """Refuse what looks like splits with names of their own: no files, and the same folders in each."""
    inside = (path for name in classes for path in (folder / name).iterdir() if not path.name.startswith("."))
    if not all(path.is_dir() for path in inside):  # which ends at the first image
        return
    first, *others = (_subfolders(folder / name) for name in classes)
    if len(first) > 1 and all(other == first for other in others):  # a single one is no set of classes
        raise DataError(
            folder,
            "folders must be classes with images, or splits called train, val and test",
            f"{classes}, each with the folders {sorted(first)} alone",
        )


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[str], Tensor]:
    """The images that are not hidden, ordered by class and path, and the index of their class."""
    numbers = {name: number for number, name in enumerate(classes)}
    found = [
        (path, label)
        for path, label in make_dataset(folder, numbers, IMG_EXTENSIONS, allow_empty=True)
        if not any(part.startswith(".") for part in Path(path).relative_to(folder).parts)
    ]
    return [path for path, _ in found], torch.tensor([label for _, label in found], dtype=torch.int64)
