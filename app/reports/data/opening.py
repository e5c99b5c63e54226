"""Opens every file of the data, so that a broken one is found before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import track

from datamodules.errors import UnreadableRowError
from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import Split

SHOWN = 5
THREADS = 4  # PIL decodes without Python's lock


def open_all(data: MultiTaskDataModule, console: Console) -> list[str]:
    """Read each row of all splits whose rows are read one by one, under a bar; lines on those that cannot be.

    Raises:
        UnreadableRowError: One cannot be, and such rows are not to be skipped.
        ValueError: A row is not what its source says of it.
    """
    waiting = [
        (split, row)
        for dataset in data.datasets.values()
        for split in dataset.splits
        if not hasattr(split, "__getitems__")
        for row in range(len(split))
    ]
    if not waiting:
        return []
    found = [error for error in _tried(waiting, console) if error is not None]
    lines = [str(error) for error in found[:SHOWN]]
    if found and not data.datasets["train"].reader.skip:
        more = f" (and {len(found) - 1} more of {len(waiting)} rows)" if len(found) > 1 else ""
        raise UnreadableRowError(f"{found[0]}{more}; `data.on_error: skip` leaves such rows out")
    counted = f"All {len(waiting):,} rows were opened" + (f"; {len(found)} cannot be read" if found else "") + "."
    return [counted, *lines, *(["…"] if found[SHOWN:] else [])]


def _tried(waiting: list[tuple[Split, int]], console: Console) -> Iterator[UnreadableRowError | None]:
    with ThreadPoolExecutor(THREADS) as pool:
        errors = pool.map(_error_of, waiting, chunksize=16)
        yield from track(errors, "Opening every row", len(waiting), console=console, transient=True)


def _error_of(place: tuple[Split, int]) -> UnreadableRowError | None:
    split, row = place
    try:
        split[row]
    except UnreadableRowError as error:
        return error
    return None
