"""Feature columns as the input of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sources.table.kinds import codes
from datamodules.sources.table.reading import first, place, refuse_mixture
from datamodules.targets.flat import LARGEST


class Features:
    """Numeric columns to be standardised, and columns of text or booleans to be written as one-hot vectors.

    Args:
        table: The file, for messages.
        columns: Their cells, null where they are empty.

    Attributes:
        kinds: Column → "numbers" or "text", in the order of the inputs.
        real: Whether one has numbers that are no integers.

    Raises:
        ValueError: A column is empty, mixes numbers and text, has an infinite number, or is of dates or the like.
    """

    def __init__(self, table: str, columns: Sequence[pl.Series]) -> None:
        self._columns = [_feature(table, cells) for cells in columns]
        self.kinds = {
            cells.name: "numbers" if each.names is None else "text"
            for cells, each in zip(columns, self._columns, strict=True)
        }
        self.real = any(cells.dtype.is_float() for cells in columns)

    def of(self, rows: Tensor, training: Sequence[tuple[Features, Tensor]]) -> Tensor:
        """The features [R, F] of `rows` [R], with the statistics and the classes of training rows.

        An empty cell is the mean of its column, which is 0, or of none of its classes; so is a class that no training
        row has. A numeric column that is constant in training is 0 throughout.

        Args:
            rows: Which rows.
            training: The training rows of this table, and of others with the same columns.
        """
        encoded = []
        for number, column in enumerate(self._columns):
            seen = [features._columns[number].part(rows_of) for features, rows_of in training]
            encoded.append(column.part(rows).encoded(seen))
        return torch.cat(encoded, dim=1)


@dataclass
class _Feature:
    """Cells of a column.

    Attributes:
        values: [N] real numbers with NaN for an empty cell; or numbers of `names` with -1 for it.
        names: The distinct texts, sorted; None of a column of numbers.
    """

    values: Tensor
    names: list[str] | None = None

    def part(self, rows: Tensor) -> _Feature:
        """The cells of `rows` [R]."""
        return _Feature(self.values[rows], self.names)

    def encoded(self, training: Sequence[_Feature]) -> Tensor:
        """Inputs [N, 1] if they are numbers, else [N, C] for the C classes of training."""
        if self.names is None:
            return _standardised(self.values, torch.cat([each.values for each in training]))
        classes = sorted({name for each in training for name in each.occurring()})
        numbers = {name: number for number, name in enumerate(self.names)}
        columns = torch.tensor([numbers.get(name, -2) for name in classes], dtype=torch.int64)  # -2 matches no cell
        return torch.eq(self.values[:, None], columns).float()

    def occurring(self) -> list[str]:
        """The texts of the cells."""
        assert self.names is not None
        counts = self.values[self.values >= 0].bincount()
        return [self.names[number] for number in counts.nonzero().squeeze(1).tolist()]


def _standardised(values: Tensor, training: Tensor) -> Tensor:
    """Numbers [N] with mean 0 and standard deviation 1 in training, [N, 1]."""
    seen = training[~training.isnan()]
    if not len(seen) or seen.min() == seen.max():
        return torch.zeros(len(values), 1)
    std, mean = torch.std_mean(seen, correction=0)
    return ((values - mean) / std).nan_to_num(0.0).float()[:, None]


def _feature(table: str, cells: pl.Series) -> _Feature:
    """A column that can be an input."""
    where = place(table, cells.name)
    if cells.null_count() == len(cells):
        raise DataError(where, "a feature must have a value", "empty cells only")
    if cells.dtype in (pl.String, pl.Boolean):
        refuse_mixture(table, cells, "a feature is either of numbers or of text")
        return _Feature(codes(cells), cells.drop_nulls().unique().sort().cast(pl.String).to_list())
    if not cells.dtype.is_numeric():
        raise DataError(where, "a feature must be of text, numbers or booleans", cells.dtype)
    numbers = cells.cast(pl.Float64)
    beyond = (numbers.abs() > LARGEST).fill_null(False)
    if beyond.any():
        row = first(beyond)
        raise DataError(
            place(table, cells.name, row), f"a feature must be finite and within ±{LARGEST:.3g}", numbers[row]
        )
    return _Feature(torch.tensor(numbers.fill_null(float("nan")).to_numpy()))
