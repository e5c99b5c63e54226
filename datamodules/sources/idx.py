"""IDX files, the format of MNIST: a header, then one number a byte."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError

RAW = ("", "MNIST/raw", "FashionMNIST/raw")  # where torchvision puts the files under its root
UNSIGNED_BYTES = 0x08  # the format's number of the type


def find(folder: Path, name: str) -> Path | None:
    """The file `name`, raw or with the ending .gz, in `folder` or where torchvision puts it under there."""
    candidates = (folder / inner / f"{name}{ending}" for inner in RAW for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def read(path: Path, dimensions: int) -> Tensor:
    """The numbers of a file, as uint8 of so many `dimensions`.

    The header is four bytes (two zeros, the type, the number of dimensions), then a big-endian int32 a dimension.

    Raises:
        ValueError: The file is not of this format, or not whole.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"must be a whole gzip file, found: {error}") from error
    expected, start = bytes((0, 0, UNSIGNED_BYTES, dimensions)), 4 + 4 * dimensions
    if content[:4] != expected:
        raise DataError(path, f"must begin with the bytes {expected.hex(' ')}", content[:4].hex(" "))
    if len(content) < start:
        raise DataError(path, f"the header must have {start} bytes", len(content))
    shape = np.frombuffer(content, dtype=">i4", count=dimensions, offset=4).tolist()
    if len(content) - start != np.prod(shape):
        sizes = "×".join(map(str, shape))
        raise DataError(path, f"{sizes} numbers must follow the header", len(content) - start)
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy())
