"""Images with labels of a value a pixel, in the layout of the .npy files that the authors of MTAN released."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError, UnreadableRowError
from datamodules.sources.base import Source
from datamodules.sources.split import Split, SplitName
from datamodules.splits.folds import Folds
from datamodules.splits.splitting import Integers, split_rows
from datamodules.targets import Dense, Target
from datamodules.targets.maps import ClassMap, Map, ValueMap, VectorMap

IMAGE = "image"
OVERSHOOT = 0.5  # how far resampling may have put pixels beyond [0, 1]; bytes are refused
SPARSEST = 10  # how many times as many rows as files there may be
LONGEST = 1.01  # length of a vector that rounding may have made of 1


@dataclass(frozen=True)
class MapFolder:
    """The labels of a task, a file a row in a folder of their own.

    Args:
        folder: Names of the folder, of which the first that is there counts.
        target: What the labels are.
        channels: Size of the arrays' last axis, after height and width; None if there is no such axis.
        read: An array [H, W] or [H, W, channels] of numbers as a label.
        least: The least number that may be in it; None if there is none.
    """

    folder: tuple[str, ...]
    target: Dense
    channels: int | None
    read: Callable[[NDArray[Any]], Map]
    least: float | None = None


class Scenes(Source):
    """Images and labels of a value a pixel in `path/train/` and `path/val/`, a folder a kind, a file a row.

    Of a row i, `image/<i>.npy` is [H, W, 3] in [0, 1], and every task has a map of the same height and width in a
    folder of its own. Files are opened when a row is read; at the start only their headers are.

    Args:
        path: The folder.
        maps: Task → where its labels are.
        val_fraction: Share of the rows in `train/` that is for validation; 0 leaves them all for training, and
            validates on the rows of `val/`, which are the test.
        seed: Which rows they are.

    Raises:
        ValueError: A folder is missing or has other files, or a file is of another size than its image's.
    """

    def __init__(self, path: str, maps: Mapping[str, MapFolder], val_fraction: float, seed: int) -> None:
        if not 0 <= val_fraction < 1:
            raise DataError("val_fraction", "must be at least 0 and less than 1", val_fraction)
        root = Path(path).expanduser()
        self.targets: dict[str, Target] = {task: kind.target for task, kind in maps.items()}
        self._train, self._test = (Files(root / name, maps) for name in ("train", "val"))
        self._held_out = np.zeros(len(self._train), dtype=bool)
        if val_fraction:
            strata = np.zeros(len(self._train), dtype=np.int64)
            self._held_out = split_rows([1 - val_fraction, val_fraction], strata, seed=seed) == 1

    def split(self, name: SplitName) -> SceneSplit:
        """Inputs are [3, H, W] in [0, 1]."""
        if name == "test" or (name == "val" and not self._held_out.any()):
            return SceneSplit(self._test, np.arange(len(self._test)))
        return SceneSplit(self._train, (self._held_out if name == "val" else ~self._held_out).nonzero()[0])

    def folded(self, folds: Folds) -> Scenes:
        """These scenes with a fold of the rows in `train/` for validation."""
        source = copy.copy(self)
        source._held_out = folds.held_out(len(self._train)).numpy()
        return source


class Files:
    """The arrays of `train/` or `val/`.

    Args:
        folder: That folder.
        maps: Task → where its labels are.

    Attributes:
        missing: Row → the first of its files that is not there.

    Raises:
        ValueError: A folder is missing or has other files, or a file is of another size than its image's.
    """

    def __init__(self, folder: Path, maps: Mapping[str, MapFolder]) -> None:
        self.maps = maps
        self.images = _place(folder, (IMAGE,))
        self.places = {task: _place(folder, kind.folder) for task, kind in maps.items()}
        numbers = {place: _numbers(place) for place in (self.images, *self.places.values())}
        self._rows = _rows(numbers)
        self.missing = {
            row: _file(place, row)
            for place, found in reversed(numbers.items())
            for row in set(range(self._rows)) - found
        }
        for row in range(self._rows):
            with suppress(UnreadableRowError):  # for those who read it, or leave it out
                self._check_sizes(row)

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows

    def image(self, row: int) -> Tensor:
        """The image [3, H, W].

        Raises:
            UnreadableRowError: Its file is missing or no whole array.
            ValueError: It is none in [0, 1].
        """
        image = np.moveaxis(_array(self.images, row, 3), -1, 0).astype(np.float32)
        low, high = image.min(), image.max()
        if not -OVERSHOOT <= low <= high <= 1 + OVERSHOOT:  # as NaN is not
            raise DataError(_file(self.images, row), "pixels must be in [0, 1]", f"{low:g} to {high:g}")
        return torch.from_numpy(image)

    def label(self, row: int, task: str) -> Tensor:
        """The label of a task.

        Raises:
            UnreadableRowError: Its file is missing or no whole array.
            ValueError: It breaks its target's rule.
        """
        kind, where = self.maps[task], f"{_file(self.places[task], row)}, target {task!r}"
        array = _array(self.places[task], row, kind.channels)
        if kind.least is not None and (array < kind.least).any():  # as NaN is not
            raise DataError(where, f"a value must be at least {kind.least:g}", f"{np.nanmin(array):g}")
        label = kind.read(array)
        if kind.target.invalid(label[None]).any():
            raise DataError(where, f"a label must be {kind.target.rule}", kind.target.found(label))
        return label

    def _check_sizes(self, row: int) -> None:
        """Compare a row's maps with its image, by their headers."""
        size = _array(self.images, row, 3).shape[:2]
        for task, kind in self.maps.items():
            found = _array(self.places[task], row, kind.channels).shape[:2]
            if found != size:
                raise DataError(
                    _file(self.places[task], row),
                    f"must be of the height and width of its image, {size[0]}×{size[1]}",
                    f"{found[0]}×{found[1]}",
                )


class SceneSplit(Split):
    """Rows of `train/` or `val/`, read one by one.

    Args:
        files: Their files.
        rows: [N] the numbers of the rows.
    """

    def __init__(self, files: Files, rows: Integers) -> None:
        super().__init__(len(rows), {})
        self.files, self.rows = files, rows
        self.labelled = {task: torch.ones(len(rows), dtype=torch.bool) for task in files.maps}

    def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The image and the labels of one row.

        Raises:
            UnreadableRowError: A file is missing or no whole array.
            ValueError: An image or a label breaks its rule.
        """
        number = int(self.rows[row])
        return self.files.image(number), {task: self.files.label(number, task) for task in self.files.maps}

    def name(self, row: int) -> str:
        """The file of the row's image, or that which is missing."""
        number = int(self.rows[row])
        return str(self.files.missing.get(number, _file(self.files.images, number)))

    def key(self, row: int) -> str:
        """The row's number among its files."""
        return str(self.rows[row])

    def missing(self) -> list[int]:
        """Rows of which a file is not there."""
        return [row for row, number in enumerate(self.rows.tolist()) if number in self.files.missing]


def chosen(maps: Mapping[str, MapFolder], tasks: Sequence[str]) -> dict[str, MapFolder]:
    """The maps of `tasks`, in their order.

    Raises:
        ValueError: There is none.
    """
    if not tasks:
        raise DataError("tasks", f"must be some of {', '.join(maps)}", "none")
    return {task: maps[task] for task in tasks}


def classes_of(array: NDArray[Any]) -> ClassMap:
    """Class indices [H, W]; what is no index stays real, for the target to refuse."""
    whole = array.dtype.kind in "biu" or np.array_equal(array, np.round(array))
    return torch.from_numpy(array.astype(np.int64 if whole else np.float32)).as_subclass(ClassMap)


def values_of(kind: type[ValueMap], array: NDArray[Any]) -> ValueMap:
    """Numbers [H, W] of an array [H, W, 1], NaN in place of 0."""
    values = torch.from_numpy(array[..., 0].astype(np.float32))
    return torch.where(values == 0, torch.nan, values).as_subclass(kind)


def normals_of(array: NDArray[Any]) -> VectorMap:
    """Vectors [3, H, W] of length 1, or 0 where they are; longer ones stay as they are, for the target to refuse."""
    vectors = torch.from_numpy(np.moveaxis(array, -1, 0).astype(np.float32))
    lengths = torch.linalg.vector_norm(vectors, dim=0)
    shrunk = (lengths > 0) & (lengths < LONGEST)
    return (vectors / torch.where(shrunk, lengths, 1)).as_subclass(VectorMap)


def _place(folder: Path, names: Sequence[str]) -> Path:
    """The first of the folders `names` in `folder` that is there."""
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise DataError(folder, f"must have the folder {' or '.join(names)}", "none")


def _numbers(place: Path) -> set[int]:
    """The rows that have a file in the folder."""
    names = [path.name for path in place.iterdir() if not path.name.startswith(".")]
    for name in names:
        if not re.fullmatch(r"(0|[1-9]\d*)\.npy", name):
            raise DataError(place, "files must be called 0.npy, 1.npy and so on", name)
    if not names:
        raise DataError(place, "must have the files 0.npy, 1.npy and so on", "none")
    return {int(name.removesuffix(".npy")) for name in names}


def _rows(numbers: Mapping[Path, set[int]]) -> int:
    """How many rows there are, from the numbers of the files of each folder."""
    place = max(numbers, key=lambda place: max(numbers[place]))
    rows, files = max(numbers[place]) + 1, len(set().union(*numbers.values()))
    if rows > SPARSEST * files:  # each of them would be looked for
        raise DataError(_file(place, rows - 1), "files must be called 0.npy, 1.npy and so on", f"{files} numbers")
    return rows


def _file(place: Path, row: int) -> Path:
    return place / f"{row}.npy"


def _array(place: Path, row: int, channels: int | None) -> NDArray[Any]:
    """A row's array in a folder, [H, W] or [H, W, `channels`]; of its numbers, those that are used are read."""
    path = _file(place, row)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UnreadableRowError(path, "the file must be there", "none") from None
    except (OSError, ValueError, EOFError) as error:  # as NumPy raises for what is no whole file of its own
        reason = " ".join(str(error).split())
        raise UnreadableRowError(path, f"must be a whole .npy file of numbers, found: {reason}") from error
    last = () if channels is None else (channels,)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or array.shape[2:] != last or not array.size:
        wanted = ", ".join(["height", "width", *map(str, last)])
        raise DataError(path, f"must be numbers of the shape ({wanted})", f"{array.dtype} of {array.shape}")
    return array
