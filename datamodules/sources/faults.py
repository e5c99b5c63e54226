"""Errors of a user's own code, told with the rows that it was to read."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from datamodules.errors import DataError, UnreadableRowError
from datamodules.sources.split import Split

UNREADABLE = (OSError, EOFError, SyntaxError)  # what PIL raises for a broken file
NAMED = 3  # rows


@contextmanager
def rows_named(split: Split, rows: Sequence[int] | Tensor) -> Iterator[None]:
    """Name the rows in what a split of the user's own raises while it reads them; one of ours does so itself.

    Raises:
        UnreadableRowError: A file of theirs is missing or broken.
        DataError: The split fails for another reason.
    """
    if type(split).__module__.partition(".")[0] == __name__.partition(".")[0]:
        yield
        return
    with named(lambda: _names(split, rows), "the split must give its rows"):
        yield


@contextmanager
def named(name: Callable[[], str], rule: str) -> Iterator[None]:
    """Say which row an error is of, and whether a broken file or the user's code is at fault.

    Args:
        name: What the user calls the row.
        rule: What the code must do.

    Raises:
        UnreadableRowError: A file is missing or broken.
        DataError: The code fails for another reason.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except UNREADABLE as error:
        raise UnreadableRowError(name(), f"must be readable, found: {message_of(error)}") from error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__}: {message_of(error)} (line {place.lineno} of {Path(place.filename).name})"
        raise DataError(name(), rule, found) from error


def message_of(error: BaseException | None) -> str:
    """What an error says, on one line; its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _names(split: Split, rows: Sequence[int] | Tensor) -> str:
    return ", ".join(split.name(int(row)) for row in rows[:NAMED]) + (", …" if len(rows) > NAMED else "")
