"""Rows of a large table, read from its file as they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from datamodules.contract import Feature
from datamodules.errors import DataError
from datamodules.new_rows.features import features_of, tell_unknown
from datamodules.sources.split import Split
from datamodules.sources.table.reading import empty, ragged_line, reading, tidy

ROWS = 16_384  # that are read at once
KEPT = 2  # chunks: a loader reads a batch ahead of the one whose rows are named


class StreamedFeatures(Split):
    """Rows of a table of features, of which no more than two chunks are in memory, by one process: Polars stays in it.

    All of them are read once before, so that a cell that is not what it must be is found before the first is used.

    Args:
        path: A CSV file without blank lines, or a Parquet file.
        known: What training knew of the columns.

    Raises:
        ValueError: It is no whole table, lacks a column, or a cell is not what its column must hold.
    """

    def __init__(self, path: Path, known: tuple[Feature, ...]) -> None:
        self.path, self.known = path, known
        sizes, unknown = [], Counter[str]()
        with reading(path):
            for frame, start in _chunks(path, known):
                features, counts = features_of(path.name, frame, known, start)
                sizes.append(len(features))
                unknown += counts
        tell_unknown(path.name, unknown)
        self._starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
        super().__init__(self._starts[-1], {})
        self._begin()

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """One row's features."""
        return self.__getitems__(torch.tensor([row]))[0][0], {}

    def __getitems__(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [B, F] of `rows` [B]."""
        parts = []
        for number, (start, end) in enumerate(pairwise(self._starts)):
            mine = rows[(rows >= start) & (rows < end)]
            if len(mine):
                parts.append(self._chunk(number)[mine - start])
        back = rows.argsort(stable=True).argsort()
        return torch.cat(parts)[back] if len(parts) > 1 else parts[0], {}

    def name(self, row: int) -> str:
        """Where the row stands in the file."""
        return f"row {row} of {self.path.name}"

    def _begin(self) -> None:
        self._held: dict[int, Tensor] = {}
        self._next, self._coming = 0, _chunks(self.path, self.known)

    def _chunk(self, number: int) -> Tensor:
        """The features of a chunk; reading begins anew where it lies behind."""
        if number not in self._held and number < self._next:
            self._begin()
        while number not in self._held:
            frame, start = next(self._coming)
            self._held[self._next], _ = features_of(self.path.name, frame, self.known, start)
            self._held.pop(self._next - KEPT, None)
            self._next += 1
        return self._held[number]


def streamable(path: Path) -> bool:
    """Whether every line of a file is a row.

    Raises:
        ValueError: It is no whole table.
    """
    if path.suffix.lower() == ".parquet":
        return True
    with reading(path):
        if ragged := ragged_line(path):
            raise DataError(path, f"must be a whole csv table, found: {ragged}")
        blank = pl.scan_csv(path, infer_schema=False).select(pl.all_horizontal(empty(pl.all())).any())
        return not blank.collect(engine="streaming").item()


def _chunks(path: Path, known: tuple[Feature, ...]) -> Iterator[tuple[pl.DataFrame, int]]:
    """The feature columns of each part of the table, and the row at which it begins."""
    names = [feature.name for feature in known]
    table = pl.scan_parquet(path) if path.suffix.lower() == ".parquet" else pl.scan_csv(path, infer_schema=False)
    start = 0
    for frame in table.select(names).collect_batches(chunk_size=ROWS, lazy=True):
        yield frame.select(tidy(frame[name], False, ()) for name in names), start
        start += len(frame)
