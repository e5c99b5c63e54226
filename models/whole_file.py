"""Whether a file of torch is as it was written."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

BROKEN = (BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError, OverflowError)


def fault_of(path: Path) -> str | None:
    """What is wrong with a file that `torch.save` wrote: its records have checksums, which `torch.load` ignores.

    Args:
        path: of a zip.
    """
    try:
        with ZipFile(path) as file:
            broken = file.testzip()
            packed = [each.filename for each in file.infolist() if each.compress_type]
    except BROKEN as error:
        return f"its zip cannot be read ({error})"
    if packed:
        return f"its record {packed[0]!r} is compressed, as torch writes none"
    return None if broken is None else f"its record {broken!r} is not what was written"
