"""Feature columns of new rows as the inputs of a network that knows them."""

from __future__ import annotations

import warnings
from collections import Counter

import polars as pl
from torch import Tensor

from datamodules.contract import Cells, Feature
from datamodules.errors import DataError
from datamodules.sources.table.features import cells_of, encoded
from datamodules.sources.table.kinds import texts
from datamodules.sources.table.reading import first, place


def features_of(
    table: str, frame: pl.DataFrame, known: tuple[Feature, ...], start: int = 0
) -> tuple[Tensor, Counter[str]]:
    """The features [N, F] of a frame's columns, and by column how many cells are unknown to the network.

    Args:
        table: The file, for messages.
        frame: The columns.
        known: What training knew of them.
        start: The row of the table at which the frame begins.

    Raises:
        ValueError: A cell is not what its column must hold, or a text is none that training had.
    """
    cells = {feature.name: cells_of(table, frame[feature.name], feature.kind, start) for feature in known}
    counts = {
        feature.name: _unknown(table, frame[feature.name], feature, cells[feature.name], start) for feature in known
    }
    return encoded(cells, known), Counter(counts)


def tell_unknown(table: str, counts: Counter[str]) -> None:
    """Say how many cells of each column are unknown to the network."""
    for column, count in counts.items():
        if count:
            warnings.warn(f"{place(table, column)}: {count} cells are unknown to the network", stacklevel=2)


def _unknown(table: str, column: pl.Series, feature: Feature, cells: Cells, start: int) -> int:
    """How many cells have a text that no training row had; refuse them where the network has no input for such."""
    unseen = feature.unseen(cells)
    if not unseen:
        return 0
    names = texts(column)
    if not feature.takes_unseen:
        where = place(table, feature.name, start + first(names == unseen[0]))
        raise DataError(where, f"must be one of those in training, {feature.range}", repr(unseen[0]))
    return int(names.is_in(unseen).sum())
