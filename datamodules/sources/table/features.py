"""Feature columns of a table as the input of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from datamodules.contract import BUCKETS, Cells, Feature, Kind, fitted
from datamodules.errors import DataError
from datamodules.sources.table.kinds import codes, texts
from datamodules.sources.table.reading import first, place, refuse_mixture
from datamodules.targets.flat import LARGEST

MOST_TEXTS = 1000  # distinct values of a column that are not asked for
FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f")  # of ISO 8601, its T a blank
DAY = 86_400_000_000  # microseconds


@dataclass
class FeatureColumn:
    """How a feature column is taken, where that is not to be inferred.

    Args:
        kind: "numbers"; "text", an input a value; "hashed", an input for each of so many `buckets`; or "date", as year,
            month, weekday and days elapsed. Inferred: dates where all cells are such (2024-03-01, or with a time),
            else numbers or text. Text of more than 1000 values must be told to be text, or hashed, or left out.
        buckets: How many of a hashed column.
    """

    kind: Kind | None = None
    buckets: int = BUCKETS


class Features:
    """The feature columns of a table's rows.

    Args:
        table: The file, for messages.
        columns: Their cells, null where they are empty.
        given: Column → how it is taken, null to infer it.

    Attributes:
        kinds: Column → its kind, in the order of the inputs.
        real: Whether one has numbers that are no integers.

    Raises:
        ValueError: A column is empty, mixes numbers and text, has an infinite number, has too many texts, or is not
            what it must be.
    """

    def __init__(self, table: str, columns: Sequence[pl.Series], given: Mapping[str, FeatureColumn]) -> None:
        self.kinds: dict[str, Kind] = {
            cells.name: given[cells.name].kind or inferred_kind(table, cells) for cells in columns
        }
        self.cells = {cells.name: cells_of(table, cells, self.kinds[cells.name]) for cells in columns}
        self.buckets = {name: column.buckets for name, column in given.items()}
        self.real = any(cells.dtype.is_float() for cells in columns)

    def of(self, rows: Tensor, known: Sequence[Feature]) -> Tensor:
        """The features [R, F] of `rows` [R], by what training knew of each column."""
        return encoded({name: cells.part(rows) for name, cells in self.cells.items()}, known)

    def fitted(self, training: Sequence[tuple[Features, Tensor]]) -> tuple[Feature, ...]:
        """What is known of each column from the training rows of this table, and of others with the same columns."""
        return tuple(
            fitted(name, kind, self.buckets[name], [features.cells[name].part(rows) for features, rows in training])
            for name, kind in self.kinds.items()
        )


def encoded(cells: Mapping[str, Cells], known: Sequence[Feature]) -> Tensor:
    """Inputs [R, F] of the cells of R rows, by column."""
    return torch.cat([feature.encoded(cells[feature.name]) for feature in known], dim=1)


def inferred_kind(table: str, cells: pl.Series) -> Kind:
    """What a column's cells are.

    Raises:
        ValueError: They are all empty, numbers beside text, of too many texts, or of another type.
    """
    where = place(table, cells.name)
    if cells.null_count() == len(cells):
        raise DataError(where, "a feature must have a value", "empty cells only")
    if cells.dtype.is_numeric():
        return "numbers"
    if cells.dtype in (pl.Date, pl.Datetime) or (cells.dtype == pl.String and not _undated(cells).any()):
        return "date"
    if cells.dtype not in (pl.String, pl.Boolean):
        raise DataError(where, "a feature must be of text, numbers, dates or booleans", cells.dtype)
    refuse_mixture(table, cells, "a feature is either of numbers or of text")
    if (number := cells.n_unique()) > MOST_TEXTS:
        rule = (
            f"text of more than {MOST_TEXTS} values must be said to be `kind: text` or `kind: hashed`, or be left out"
        )
        raise DataError(where, rule, f"{number} values")
    return "text"


def cells_of(table: str, cells: pl.Series, kind: Kind, start: int = 0) -> Cells:
    """A column's cells, read as what they are to be; `start` is the row of the table that the first is of.

    Raises:
        ValueError: One is not.
    """
    if kind == "numbers":
        return Cells(_numbers(table, cells, start))
    if kind == "date":
        _refuse(table, cells, start, _undated(cells), "a cell must be a date, as 2024-03-01 or 2024-03-01 12:30")
        return Cells(_parts(_times(cells)))
    names = texts(cells)
    return Cells(codes(names), names.drop_nulls().unique().sort().to_list())


def _numbers(table: str, cells: pl.Series, start: int) -> Tensor:
    """Numbers [N], float64, NaN where a cell is empty."""
    numbers = cells.cast(pl.Float64, strict=False)
    _refuse(table, cells, start, cells.is_not_null() & numbers.is_null(), "a cell must be a number, as in training")
    beyond = (numbers.abs() > LARGEST).fill_null(False) | numbers.is_infinite().fill_null(False)
    _refuse(table, numbers, start, beyond, f"a feature must be finite and within ±{LARGEST:.3g}")
    return torch.tensor(numbers.fill_null(float("nan")).to_numpy())


def _refuse(table: str, cells: pl.Series, start: int, wrong: pl.Series, rule: str) -> None:
    if wrong.any():
        row = first(wrong)
        raise DataError(place(table, cells.name, start + row), rule, repr(cells[row]))


def _times(cells: pl.Series) -> pl.Series:
    """Dates and times in microseconds, those of a time zone in UTC; null where a cell is none."""
    if cells.dtype == pl.Datetime and cells.dtype.time_zone:  # type: ignore[attr-defined]
        cells = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if cells.dtype in (pl.Date, pl.Datetime):
        return cells.cast(pl.Datetime("us"))
    text = cells.cast(pl.String).str.replace("T", " ", literal=True).str.strip_suffix("Z").to_frame("text")
    each = [pl.col("text").str.strptime(pl.Datetime("us"), form, strict=False, exact=True) for form in FORMATS]
    return text.select(pl.coalesce(each)).to_series()


def _undated(cells: pl.Series) -> pl.Series:
    """Which cells are neither a date nor empty."""
    return cells.is_not_null() & _times(cells).is_null()


def _parts(times: pl.Series) -> Tensor:
    """Year, month, weekday (1 is Monday) and days since 1970 [N, 4], float64, NaN where there is no date."""
    days = times.dt.epoch("us").cast(pl.Float64) / DAY
    parts = [times.dt.year(), times.dt.month(), times.dt.weekday(), days]
    columns = [part.cast(pl.Float64).fill_null(float("nan")).to_numpy() for part in parts]
    return torch.from_numpy(np.stack(columns, axis=1))
