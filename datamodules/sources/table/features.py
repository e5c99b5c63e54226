"""Feature columns as the input of a network."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from torch import Tensor

from datamodules.sources.table.kinds import codes
from datamodules.sources.table.reading import first, place, refuse_mixture


class Features:
    """Numeric columns to be standardised, and columns of text or booleans to be written as one-hot vectors.

    Args:
        table: The file, for messages.
        columns: Their cells, null where they are empty.

    Raises:
        ValueError: A column is empty, mixes numbers and text, has an infinite number, or is of dates or the like.
    """

    def __init__(self, table: str, columns: Sequence[pl.Series]) -> None:
        self._columns = [_column(table, cells) for cells in columns]

    def of(self, rows: Tensor, training: Tensor) -> Tensor:
        """The features [R, F] of `rows` [R], with the statistics and the classes of the rows `training`.

        An empty cell is the mean of its column, which is 0, or of none of its classes; so is a class that no training
        row has. A numeric column that is constant in training is 0 throughout.
        """
        return torch.cat([_encoded(column[rows], column[training]) for column in self._columns], dim=1)


def _column(table: str, cells: pl.Series) -> Tensor:
    """Real numbers [N] with NaN for an empty cell, or class numbers [N] with -1 for it."""
    where = place(table, cells.name)
    if cells.null_count() == len(cells):
        raise ValueError(f"{where}: a feature must have a value, found empty cells only")
    if cells.dtype in (pl.String, pl.Boolean):
        refuse_mixture(table, cells, "a feature is either of numbers or of text")
        return codes(cells)
    if not cells.dtype.is_numeric():
        raise ValueError(f"{where}: a feature must be of text, numbers or booleans, found {cells.dtype}")
    numbers = cells.cast(pl.Float64)
    if numbers.is_infinite().any():
        row = first(numbers.is_infinite())
        raise ValueError(f"{place(table, cells.name, row)}: a feature must be finite, found {numbers[row]}")
    return torch.tensor(numbers.fill_null(float("nan")).to_numpy())


def _encoded(column: Tensor, training: Tensor) -> Tensor:
    """One column's cells [R], as [R, 1] if they are numbers, else as [R, C] for the C classes of training."""
    if not column.is_floating_point():
        (classes,) = training[training >= 0].bincount().nonzero(as_tuple=True)
        return torch.eq(column[:, None], classes).float()
    seen = training[~training.isnan()]
    if not len(seen) or seen.min() == seen.max():
        return torch.zeros(len(column), 1)
    std, mean = torch.std_mean(seen, correction=0)
    return ((column - mean) / std).nan_to_num(0.0).float()[:, None]
