"""Whatever a user hands over, as rows that a trained network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from datamodules.contract import Contract
from datamodules.errors import DataError
from datamodules.new_rows.folders import images_in, labelled_images
from datamodules.new_rows.pictures import Pictures
from datamodules.new_rows.tables import rows_of_frame, rows_of_table
from datamodules.sources import ImageSplit, Split, TensorSplit

TABLES = (".csv", ".parquet")
CHANNELS = {1: "L", 3: "RGB"}


def split_of(given: Any, contract: Contract, key: str = "--input", labels: bool = False) -> Split:
    """Rows that a trained network takes, in the order in which they are given.

    Args:
        given: A path or several: of a table (CSV or Parquet), of a folder of images, at any depth and in the order of
            their names, of images, or of an array (.npy). Or a Polars or pandas frame, a PIL image or several, an array
            or tensor [N, ...], or a dict of these, a modality each.
        contract: What the network takes.
        key: What a message calls it.
        labels: Whether the columns of the labels must be there, or folders of images be called after their classes;
            else columns are read where they are.

    Raises:
        ValueError: It is something else than the network takes, has no row, or a column or a file is not there.
    """
    split = _split_of(given, contract, key, labels)
    if not len(split):
        raise DataError(key, "must have at least one row", "none")
    return split


def _split_of(given: Any, contract: Contract, key: str, labels: bool) -> Split:
    if isinstance(given, str | Path):
        return _of_paths([Path(given)], contract, key, labels)
    if isinstance(given, Image.Image):
        return _of_pictures([given], contract, key)
    if isinstance(given, pl.DataFrame):
        return rows_of_frame(given, contract, key, labels)
    if type(given).__module__.partition(".")[0] == "pandas":
        return rows_of_frame(pl.from_pandas(given), contract, key, labels)
    if isinstance(given, np.ndarray | Tensor):
        return TensorSplit(_tensor(given), {})
    if isinstance(given, dict):
        return TensorSplit({name: _tensor(each) for name, each in given.items()}, {})
    if isinstance(given, Sequence) and given and all(isinstance(each, str | Path) for each in given):
        return _of_paths([Path(each) for each in given], contract, key, labels)
    if isinstance(given, Sequence) and given and all(isinstance(each, Image.Image) for each in given):
        return _of_pictures(list(given), contract, key)
    if isinstance(given, Sequence) and not len(given):
        raise DataError(key, "must have at least one row", "none")
    rule = "must be paths, a frame, images, or an array or a dict of arrays"
    raise DataError(key, rule, type(given).__name__)


def _of_paths(paths: list[Path], contract: Contract, key: str, labels: bool) -> Split:
    paths = [path.expanduser() for path in paths]
    for path in paths:
        if not path.exists():
            raise DataError(key, "must be there", f"nothing at {path}")
    first, *others = paths
    if first.suffix.lower() in (*TABLES, ".npy") and first.is_file():
        if others:
            raise DataError(key, "a table or an array must be given alone", f"{others[0]} beside {first}")
        if first.suffix.lower() in TABLES:
            return rows_of_table(first, contract, key, labels)
        return TensorSplit(_tensor(_array(first, key)), {})
    mode = _mode(contract, key, "image files")
    if labels:
        return labelled_images(paths, contract, key, mode)
    root = first if first.is_dir() and not others else Path()
    names = [name for path in paths for name in (images_in(path) if path.is_dir() else [path])]
    for name in names:
        if name.suffix.lower() not in IMG_EXTENSIONS:
            endings = ", ".join((*TABLES, ".npy", *IMG_EXTENSIONS))
            raise DataError(key, f"a file's name must end with one of {endings}", name)
    relative = [name.relative_to(root).as_posix() if root != Path() else str(name) for name in names]
    return ImageSplit(root, relative, {}, mode=mode)  # type: ignore[arg-type]  # of `CHANNELS`


def _of_pictures(images: list[Image.Image], contract: Contract, key: str) -> Split:
    return Pictures(images, _mode(contract, key, "images"))


def _mode(contract: Contract, key: str, found: str) -> str:
    """The mode of images, of a network that takes images alone."""
    shape, columns = contract.input_shape, contract.columns
    if columns.features:
        names = [*([columns.image] if columns.image else []), *(feature.name for feature in columns.features)]
        raise DataError(key, f"must be a table with the columns {names}, as in training", found)
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[0] not in CHANNELS:
        raise DataError(key, f"must be arrays of the shape {shape}, as in training", found)
    return columns.mode or CHANNELS[shape[0]]


def _array(path: Path, key: str) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(key, f"{path} must be a whole array of numbers", error) from error


def _tensor(array: Any) -> Tensor:
    """Numbers as a network reads them: bytes as an image's, in [0, 1]."""
    x = torch.as_tensor(array)
    if x.dtype == torch.uint8:
        return x.to(torch.get_default_dtype()) / 255
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x.long()
