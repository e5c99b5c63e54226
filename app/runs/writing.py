"""Files that are there whole, or as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to beside `path`, which takes its place when all is written, and on the disk.

    Folders around it are made. Whatever goes wrong leaves the file of before, and nothing beside it.

    Raises:
        OSError: It cannot be written; the error names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole, and on the disk of the run alone; Lightning's pass through the temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a file."""
        buffer = BytesIO()  # torch's own writer words a full disk as a fault of its own
        torch.save(checkpoint, buffer)
        with whole_file(Path(path)) as file:
            file.write(buffer.getbuffer())
