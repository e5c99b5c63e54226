"""A table's file as typed columns, in which an empty cell is null."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError


def place(table: str, column: str, row: int | None = None) -> str:
    """What a message calls a column of a file, or a cell of it."""
    return f"{table}, column {column!r}" if row is None else f"row {row} of {table}, column {column!r}"


def read_table(path: Path, columns: Sequence[str], verbatim: str | None = None) -> pl.DataFrame:
    """Read `columns` of a CSV or Parquet file.

    Cells of text lose the blanks around them; empty ones and NaN become null. A column of a CSV is of integers or of
    real numbers where every cell that is not empty is one, else of text; so a leading zero (007) makes it text.

    Args:
        path: The file, of the suffix .csv (comma-separated UTF-8 with a header) or .parquet.
        columns: Their names.
        verbatim: The column that is text as it is written.

    Raises:
        ValueError: The file is not there, is no such table or has no row, or a column is not in it or more than once.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: a table's suffix must be .csv or .parquet, found {path.suffix!r}")
    if not path.is_file():
        raise ValueError(f"{path}: the table must be there, found no such file")
    try:
        header = _header(path)
        _check_columns(path.name, columns, header)
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (PolarsError, UnicodeDecodeError, csv.Error) as error:
        reason = _long_line(path) or str(error).partition("\n")[0]
        raise ValueError(f"{path}: must be a whole {path.suffix[1:]} table, found: {reason}") from error
    if not len(frame):
        raise ValueError(f"{path}: a table must have at least one row, found none below its header")
    numbers = path.suffix == ".csv"
    return frame.select(
        frame[name] if name == verbatim else _tidy(frame[name], numbers) for name in dict.fromkeys(columns)
    )


def numeric(text: pl.Series) -> pl.Series:
    """Which cells of a column of text are finite numbers."""
    return text.cast(pl.Float64, strict=False).is_finite().fill_null(False)


def refuse_mixture(table: str, cells: pl.Series, way_out: str) -> None:
    """Refuse a column of text in which some cells are numbers.

    Raises:
        ValueError: Naming the first cell of the rarer sort, and the `way_out`.
    """
    if cells.dtype != pl.String:
        return
    numbers = numeric(cells)
    texts = cells.is_not_null() & ~numbers
    if not numbers.any() or not texts.any():
        return
    odd, kind = (numbers, "text") if numbers.sum() <= texts.sum() else (texts, "a number")
    row = first(odd)
    raise ValueError(
        f"{place(table, cells.name, row)}: a cell must be {kind}, as most of the column are, "
        f"found {cells[row]!r}; {way_out}"
    )


def first(mask: pl.Series) -> int:
    """The first row at which `mask` is true."""
    return int(mask.arg_true()[0])


def _header(path: Path) -> list[str]:
    """The names of a file's columns."""
    if path.suffix == ".parquet":
        return list(pl.read_parquet_schema(path))
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise ValueError(f"{path}: a table must have a header, found an empty first line")
    return header


def _check_columns(table: str, columns: Sequence[str], header: Sequence[str]) -> None:
    for name in columns:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=3)
            known = f"near it: {near}" if near else f"there are: {list(header)}"
            raise ValueError(f"{table}: a column must be in the header, found no {name!r}; {known}")
        if header.count(name) > 1:
            raise ValueError(f"{place(table, name)}: must be in the header once, found {header.count(name)} times")


def _long_line(path: Path) -> str | None:
    """The first row of a CSV with more cells than the header, in words."""
    if path.suffix != ".csv":
        return None
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file)
        columns = len(next(lines))
        for row, line in enumerate(lines):
            if len(line) > columns:
                return f"{len(line)} cells in row {row} under a header of {columns}"
    return None


def _tidy(cells: pl.Series, numbers: bool) -> pl.Series:
    """A column without blanks, empty texts and NaN; text that is all numbers as such, where `numbers` says so."""
    if cells.dtype.is_decimal():
        cells = cells.cast(pl.Float64)
    if isinstance(cells.dtype, pl.Categorical | pl.Enum):
        cells = cells.cast(pl.String)
    if cells.dtype.is_float():
        return cells.fill_nan(None)
    if cells.dtype != pl.String:
        return cells
    text = cells.str.strip_chars()
    text = text.set(text == "", None)
    return _parsed(text) if numbers else text


def _parsed(text: pl.Series) -> pl.Series:
    """A column of text as integers or real numbers, where all of its cells are."""
    given = text.set(text.str.to_lowercase() == "nan", None)
    if given.str.contains(r"^[+-]?0\d+$").any():
        return text
    for dtype in (pl.Int64, pl.Float64):
        numbers = given.cast(dtype, strict=False)
        if numbers.null_count() == given.null_count() and numbers.is_finite().all():
            return numbers
    return text
