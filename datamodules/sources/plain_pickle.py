"""Pickles of arrays and plain values, read without running what else is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.sources.faults import message_of

# What NumPy of any version writes for an array, and Python 3 for bytes in a pickle that Python 2 can read.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class PlainUnpickler(pickle.Unpickler):
    """Builds arrays, numbers, strings, lists, tuples and dicts; refuses everything else before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle wants to call.

        Raises:
            UnpicklingError: It is not needed for an array.
        """
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_arrays(path: Path, keys: dict[str, type]) -> dict[str, Any]:
    """The entries of a pickled dict.

    Text that Python 2 wrote is read as latin-1.

    Args:
        path: The file.
        keys: Key → what it must hold: `list`, or `np.ndarray` for one of bytes (uint8).

    Raises:
        ValueError: The file is missing or no such pickle, holds code, or lacks a key.
    """
    if not path.is_file():
        raise DataError(path, "the file must be there", "none")
    try:
        with path.open("rb") as file:
            content = PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise any of Python's errors
        raise DataError(
            path, f"must be a whole pickle of arrays and plain values alone, found: {message_of(error)}"
        ) from error
    for key, kind in keys.items():
        found = content.get(key) if isinstance(content, dict) else content
        if not isinstance(found, kind) or (isinstance(found, np.ndarray) and found.dtype != np.uint8):
            wanted = "an array of bytes" if kind is np.ndarray else f"a {kind.__name__}"
            raise DataError(path, f"must be a dict with {wanted} as {key!r}", type(found).__name__)
    return {key: content[key] for key in keys}
