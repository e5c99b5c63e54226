"""Feature columns of new rows as the inputs of a network that knows them."""

from __future__ import annotations

import warnings

import polars as pl
from torch import Tensor

from datamodules.contract import Cells, Feature
from datamodules.errors import DataError
from datamodules.sources.table.features import cells_of, encoded
from datamodules.sources.table.reading import first, place


def features_of(table: str, frame: pl.DataFrame, known: tuple[Feature, ...], start: int = 0) -> Tensor:
    """The features [N, F] of a frame's columns.

    Args:
        table: The file, for messages.
        frame: The columns.
        known: What training knew of them.
        start: The row of the table at which the frame begins.

    Raises:
        ValueError: A cell is not what its column must hold, or a text is none that training had.
    """
    cells = {feature.name: cells_of(table, frame[feature.name], feature.kind, start) for feature in known}
    for feature in known:
        _check_seen(table, frame[feature.name], feature, cells[feature.name], start)
    return encoded(cells, known)


def _check_seen(table: str, column: pl.Series, feature: Feature, cells: Cells, start: int) -> None:
    """Refuse texts that no training row had, or say how many there are where the network has an input for them."""
    unseen = feature.unseen(cells)
    if not unseen:
        return
    names = column.cast(pl.String)
    if not feature.takes_unseen:
        where = place(table, feature.name, start + first(names == unseen[0]))
        raise DataError(where, f"must be one of those in training, {feature.range}", repr(unseen[0]))
    count = int(names.is_in(unseen).sum())
    shown = ", ".join(unseen[:3]) + (", …" if unseen[3:] else "")
    warnings.warn(f"{place(table, feature.name)}: {count} cells are unknown to the network: {shown}", stacklevel=2)
