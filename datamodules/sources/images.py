"""Images in files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.errors import DataError, UnreadableRowError
from datamodules.sources.faults import message_of
from datamodules.sources.split import Split

ImageMode = Literal["RGB", "L"]
WHITE = (255, 255, 255, 255)  # what shows through transparent pixels
DEEP = ("I", "F")  # PIL's modes of more than 8 bits (I;16 among them), which its `convert` cuts off at 255


class ImageSplit(Split):
    """Rows whose input is an image in a file of its own, opened when the row is read.

    Grey images of 16 bits are scaled to 8 bits, 65535 to 255: by 257, not by the range of the single image.

    Args:
        root: The folder that `paths` are relative to.
        paths: [N] image files.
        labels: task → [N, ...].
        labelled: task → [N] bool; a task that is not in it has a label on every row.
        groups: [N] rows with the same number belong together.
        mode: "RGB" for three channels, "L" for grey.

    Raises:
        ValueError: The name of a file is not UTF-8.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: dict[str, Tensor],
        labelled: dict[str, Tensor] | None = None,
        groups: Tensor | None = None,
        mode: ImageMode = "RGB",
    ) -> None:
        super().__init__(len(paths), labels, labelled, groups)
        _check_names(root, paths)
        self.root, self.mode = root, mode
        self.paths = np.array(paths, dtype=np.dtypes.StringDType())  # one block of memory, shared with the workers

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """The image, and the labels of one row."""
        return self.image(row), self.labels_of(row)

    def image(self, row: int) -> Image.Image:
        """The decoded image.

        Raises:
            UnreadableRowError: Its file is missing, truncated or no image.
            ValueError: Its pixels are real numbers, or integers beyond 16 bits.
        """
        path = os.path.join(self.root, self.paths[row])  # noqa: PTH118 – to build a Path takes 2 % of reading a photo
        if not os.path.isfile(path):  # noqa: PTH113 – a pipe or a device would be waited for
            raise UnreadableRowError(self.name(row), "the file must be there", f"none at {path}")
        try:
            with Image.open(path) as file:
                return converted(file, self.mode, self.name(row))
        except (MemoryError, DataError):  # no fault of the file: a size beyond reason is refused before
            raise
        except Exception as error:  # of a broken file, PIL's decoders raise whatever its bytes lead to
            found = message_of(error)
            raise UnreadableRowError(self.name(row), f"{path} must be a whole image, found: {found}") from error

    def name(self, row: int) -> str:
        """The row's file."""
        return str(self.paths[row])

    def key(self, row: int) -> str:
        """The row's file, relative to the root."""
        return str(self.paths[row])

    def missing(self) -> list[int]:
        """Rows whose file is not there, found by listing each folder once."""
        listed: dict[str, set[str]] = {}
        missing = []
        for row, path in enumerate(self.paths):
            folder, _, file = path.rpartition("/")
            if folder not in listed:
                listed[folder] = _names(self.root / folder)
            if file not in listed[folder]:
                missing.append(row)
        return missing


def converted(image: Image.Image, mode: str, where: str) -> Image.Image:
    """An image decoded and upright, as its EXIF orientation says, in `mode`; transparent pixels are white.

    Of an animation, the first frame counts. Grey images of 16 bits are scaled to 8 bits.

    Args:
        image: Of any mode.
        mode: "RGB" for three channels, "L" for grey.
        where: What the user calls it.

    Raises:
        ValueError: Its pixels are real numbers, or integers beyond 16 bits.
    """
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == mode and not image.has_transparency_data:  # of which `convert` would make a copy
        return image
    if image.mode.startswith(DEEP):
        pixels = np.asarray(image)
        if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
            found = f"{pixels.dtype} from {pixels.min()} to {pixels.max()}"
            raise DataError(where, "pixels must be integers of 8 or 16 bits", found)
        return Image.fromarray((pixels / 257).round().astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image.convert(mode)


def _check_names(root: Path, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise DataError(root, "names of files must be UTF-8", repr(os.fsencode(path))) from error


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
