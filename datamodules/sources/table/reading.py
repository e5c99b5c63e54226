"""A table's file as typed columns, in which an empty cell is null."""

from __future__ import annotations

import csv
import difflib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from datamodules.errors import DataError

EXACT = 2**53  # below it, every whole number is a real one of 64 bits
MISSING = ("NaN", "nan", "NA")  # as pandas and R write an empty cell


def place(table: str, column: str, row: int | None = None) -> str:
    """What a message calls a column of a file, or a cell of it."""
    return f"{table}, column {column!r}" if row is None else f"row {row} of {table}, column {column!r}"


@dataclass
class Cells:
    """The cells of a table.

    Attributes:
        columns: Those that were asked for, typed; an empty cell is null.
        blank: [N] which rows are blank lines, and no rows of data.
        same: [N] the first row that is the same as each row in all columns of the file; None if nobody asked.
    """

    columns: pl.DataFrame
    blank: pl.Series
    same: pl.Series | None


def read_table(
    path: Path,
    columns: Sequence[str],
    texts: Collection[str] = (),
    classes: Mapping[str, Collection[str]] | None = None,
    same_but: str | None = None,
    untyped: Collection[str] = (),
) -> Cells:
    """Read `columns` of a CSV or Parquet file.

    Cells of text lose the blanks around them; empty ones, NaN, nan and NA become null. A column of a CSV is of integers
    or of real numbers where every cell that is not empty is one, else of text; so a leading zero (007) makes it text,
    as does an integer that 64 bits cannot hold. Real numbers that are all whole, beside empty cells, are integers.

    Args:
        path: The file, of the suffix .csv (comma-separated UTF-8 with a header) or .parquet.
        columns: Their names.
        texts: Columns that are text in a CSV, whatever their cells, and in which empty cells alone are null.
        classes: Column → its classes, which are no empty cells even if one is called NA.
        same_but: Find the rows that are the same in all columns but this one.
        untyped: Columns that are text in a CSV, whatever their cells.

    Raises:
        ValueError: The file is not there, is no such table or has no row, or a column is not in it or more than once.
    """
    suffix, names = path.suffix.lower(), list(dict.fromkeys(columns))
    header = columns_of(path)
    check_columns(path.name, names, header)
    with reading(path):
        if suffix == ".parquet":
            frame = pl.read_parquet(path, columns=None if same_but else names)
            blank = pl.repeat(False, len(frame), eager=True)
        else:
            frame = _read_csv(path, header)  # whole, or nobody notices a line with too many cells
            blank = frame.select(pl.all_horizontal(empty(pl.all()))).to_series()
    if blank.all():
        raise DataError(path, "a table must have at least one row", "none below its header")
    typed = {*names} - {*untyped} if suffix == ".csv" else set()
    tidied = [
        _text(frame[name]) if name in texts else tidy(frame[name], name in typed, (classes or {}).get(name, ()))
        for name in names
    ]
    same = first_of_same(frame.drop(same_but)) if same_but else None
    return Cells(pl.DataFrame(tidied), blank, same)


def columns_of(path: Path) -> list[str]:
    """The names of the columns of a CSV or Parquet file.

    Raises:
        ValueError: The file is not there, or is no such table.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(path, "a table's suffix must be .csv or .parquet", repr(path.suffix))
    if not path.is_file():
        raise DataError(path, "the table must be there", "no such file")
    with reading(path):
        return list(pl.read_parquet_schema(path)) if suffix == ".parquet" else _header(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file, and in a CSV the row, in what its readers raise.

    Raises:
        ValueError: It is no whole table.
    """
    try:
        yield
    except (PolarsError, PanicException, UnicodeDecodeError, csv.Error) as error:
        reason = (ragged_line(path) if path.suffix.lower() == ".csv" else None) or str(error).partition("\n")[0]
        raise DataError(path, f"must be a whole {path.suffix.lower()[1:]} table, found: {reason}") from error


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
    raise DataError(
        place(table, cells.name, row), f"a cell must be {kind}, as most of the column are", f"{cells[row]!r}; {way_out}"
    )


def first(mask: pl.Series) -> int:
    """The first row at which `mask` is true."""
    return int(mask.arg_true()[0])


def first_of_same(frame: pl.DataFrame) -> pl.Series:
    """The first row [N] with the same values as each row."""
    keys = frame.rename({name: f"key {number}" for number, name in enumerate(frame.columns)})
    return keys.with_row_index("row").select(pl.col("row").min().over(keys.columns)).to_series().cast(pl.Int64)


def _header(path: Path) -> list[str]:
    """The names of a CSV's columns."""
    with path.open(newline="", encoding="utf-8-sig") as file, _cells_of_any_length():
        header = next(csv.reader(file), [])
    if not header:
        raise DataError(path, "a table must have a header", "an empty first line")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise DataError(path, "cells must be divided by commas", f"the header {header[0]!r}")
    return header


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Let Python's reader take the cells that Polars does: its limit is of the whole process."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _read_csv(path: Path, header: Sequence[str]) -> pl.DataFrame:
    """All cells as text. Polars fills a line with too few cells up, so its last one is null."""
    frame = pl.read_csv(path, infer_schema=False)
    names = frame.columns  # of a name that is there twice, Polars makes another one
    if len(names) != len(header) or any(a != b for a, b in zip(names, header, strict=True) if header.count(b) == 1):
        found = f"a header that ends with {names[-1]!r}" if names else "none"
        raise DataError(path, "lines must end with a line feed, or with a carriage return and one", found)
    if frame.to_series(-1).null_count() and (ragged := ragged_line(path)):
        raise DataError(path, f"must be a whole csv table, found: {ragged}")
    return frame


def empty(text: pl.Expr) -> pl.Expr:
    """Whether a cell of text is blank."""
    return (text.str.strip_chars() == "").fill_null(True)


def check_columns(table: str, columns: Sequence[str], header: Sequence[str]) -> None:
    """Refuse columns that a header has not, or more than once.

    Raises:
        ValueError: There is one.
    """
    for name in columns:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=3)
            known = f"near it: {near}" if near else f"there are: {list(header)}"
            raise DataError(table, "a column must be in the header", f"no {name!r}; {known}")
        if header.count(name) > 1:
            raise DataError(place(table, name), "must be in the header once", f"{header.count(name)} times")


def ragged_line(path: Path) -> str | None:
    """The first row of a CSV with more or fewer cells than the header, in words. A blank line is none."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file, _cells_of_any_length():
        lines = csv.reader(file)
        columns = len(next(lines))
        for row, line in enumerate(lines):
            if len(line) != columns and any(cell.strip() for cell in line):
                return f"{len(line)} cells in row {row} under a header of {columns}"
    return None


def _text(cells: pl.Series) -> pl.Series:
    """A column without blanks and empty texts."""
    if cells.dtype != pl.String:
        return cells
    text = cells.str.strip_chars()
    return text.set(text == "", None)


def tidy(cells: pl.Series, numbers: bool, classes: Collection[str]) -> pl.Series:
    """A column without blanks, empty texts and NaN; text that is all numbers as such, where `numbers` says so."""
    if cells.dtype.is_decimal():
        return cells.cast(pl.Float64)
    if isinstance(cells.dtype, pl.Categorical | pl.Enum):
        cells = cells.cast(pl.String)
    if cells.dtype.is_float():
        return _whole_with_gaps(cells.fill_nan(None))
    if cells.dtype != pl.String:
        return cells
    text = _text(cells)
    text = text.set(text.is_in([word for word in MISSING if word not in classes]), None)
    return _parsed(text) if numbers else text


def _parsed(text: pl.Series) -> pl.Series:
    """A column of text as integers or real numbers, where all of its cells are."""
    given = text.set(text.str.to_lowercase() == "nan", None)
    if given.str.contains(r"^[+-]?0\d+$").any():
        return text
    for dtype in (pl.Int64, pl.Float64):
        numbers = given.cast(dtype, strict=False)
        if numbers.null_count() == given.null_count() and numbers.is_finite().all():
            return text if dtype == pl.Float64 and _loses_digits(given) else _whole_with_gaps(numbers)
    return text


def _loses_digits(text: pl.Series) -> bool:
    """Whether an integer in a column of numbers is no other one than itself as a real number of 64 bits."""
    long = text.filter(text.str.contains(r"^[+-]?\d{16,}$").fill_null(False))
    return any(int(float(cell)) != int(cell) for cell in long.unique())


def _whole_with_gaps(numbers: pl.Series) -> pl.Series:
    """Real numbers as integers where all are whole and a cell is empty: so do libraries write integers with gaps."""
    whole = numbers.null_count() and ((numbers % 1 == 0) & (numbers.abs() < EXACT)).all()
    return numbers.cast(pl.Int64) if whole else numbers
