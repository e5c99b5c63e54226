"""New rows in folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from torchvision.datasets.folder import IMG_EXTENSIONS

from datamodules.contract import Contract
from datamodules.errors import DataError
from datamodules.sources import ImageSplit
from datamodules.sources.table.kinds import labels_of


def images_in(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, in the order of their names; those that are hidden are left out."""
    inside = (path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    return sorted(path for path in inside if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def labelled_images(paths: Sequence[Path], contract: Contract, key: str, mode: str) -> ImageSplit:
    """The images of a folder `<class>/…`, as the source `Folder` has them, for the one task of a network.

    Raises:
        ValueError: They are not in folders of their classes, or the network has several tasks or another kind of one.
    """
    if len(contract.targets) > 1 or len(paths) > 1 or not paths[0].is_dir():
        rule = "must be a table with the columns of the labels, or, for a network of one task, a folder of its classes"
        raise DataError(key, rule, f"{paths[0]}, and the tasks {[*contract.targets]}")
    (folder,), ((task, target),) = paths, contract.targets.items()
    names = [path.relative_to(folder) for path in images_in(folder)]
    for name in names:
        if len(name.parts) < 2:
            raise DataError(key, "an image must be in the folder of its class", folder / name)
    found = labels_of(str(folder), pl.Series(task, [name.parts[0] for name in names], pl.String), target)
    files = [name.as_posix() for name in names]
    return ImageSplit(folder, files, {task: found.values}, {task: found.labelled}, mode=mode)  # type: ignore[arg-type]
