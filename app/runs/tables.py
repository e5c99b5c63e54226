"""Tables that are written a part at a time, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from app.runs.writing import whole_file
from models.errors import ConfigurationError

ENDINGS = (".csv", ".parquet")
ROWS = 16_384  # a row group of Parquet
Columns = Mapping[str, list[Any]]


@contextmanager
def table_file(path: Path, types: Mapping[str, type] | None = None) -> Iterator[Callable[[Columns], None]]:
    """Give what appends rows, by column, to a CSV or Parquet file; memory does not grow with their number.

    Args:
        path: Of the file, which is there once all is written.
        types: Column → type of its values, str or float, where the first rows may have none.

    Raises:
        OSError: It cannot be written.
    """
    with whole_file(path) as file:
        table = _Csv(file) if path.suffix.lower() == ".csv" else _Parquet(file)
        of = {name: pl.String if kind is str else pl.Float64 for name, kind in (types or {}).items()}
        yield lambda columns: table.append(pl.DataFrame(columns, schema_overrides=of))
        table.close()


def check_table_file(key: str, path: Path, overwrite: bool) -> None:
    """Refuse a file that is there already, or of another kind.

    Raises:
        ValueError: It is.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigurationError(key, f"must end with {' or '.join(ENDINGS)}", path)
    check_new(key, path, overwrite)


def check_new(key: str, path: Path, overwrite: bool) -> None:
    """Refuse a folder, and a file that is there already, unless it may be.

    Raises:
        ValueError: It is one.
    """
    if path.is_dir():
        raise ConfigurationError(key, "must be a file", f"a folder, {path}")
    if path.exists() and not overwrite:
        raise ConfigurationError(key, "must not be there yet, or `--overwrite true` be given", path)


class _Csv:
    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.begun = file, False

    def append(self, frame: pl.DataFrame) -> None:
        text = frame.write_csv(include_header=not self.begun)  # Polars' own error of a full disk has no number
        self.file.write(text.encode())
        self.begun = True

    def close(self) -> None:
        self.file.flush()


class _Parquet:
    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.waiting = file, list[pl.DataFrame]()
        self.writer: pq.ParquetWriter | None = None

    def append(self, frame: pl.DataFrame) -> None:
        self.waiting.append(frame)
        if sum(map(len, self.waiting)) >= ROWS:
            self._write()

    def close(self) -> None:
        if self.waiting:
            self._write()
        if self.writer:
            self.writer.close()

    def _write(self) -> None:
        table = pl.concat(self.waiting).to_arrow()
        self.writer = self.writer or pq.ParquetWriter(self.file, table.schema)
        self.writer.write_table(table)
        self.waiting = []
