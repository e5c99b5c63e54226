"""Feature columns as inputs of a network: what training knew of each, and how a cell becomes numbers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

Kind = Literal["numbers", "text", "date", "hashed"]
PARTS = ("year", "month", "weekday", "elapsed")  # of a date, the last in days since 1970
BUCKETS = 32


@dataclass
class Cells:
    """Cells of a feature column.

    Attributes:
        values: [N] real numbers with NaN for an empty cell; [N, 4] for a date, by `PARTS`; or of a text its number
            among `names`, -1 for an empty cell.
        names: The distinct texts, sorted; None of a column of numbers or dates.
    """

    values: Tensor
    names: list[str] | None = None

    def part(self, rows: Tensor) -> Cells:
        """The cells of `rows` [R]."""
        return Cells(self.values[rows], self.names)

    def occurring(self) -> list[str]:
        """The texts of the cells."""
        assert self.names is not None
        counts = self.values[self.values >= 0].bincount()
        return [self.names[number] for number in counts.nonzero().squeeze(1).tolist()]


@dataclass(frozen=True)
class Feature(ABC):
    """What training knew of a column.

    Args:
        name: The column's.
        missing: Share of the training rows whose cell is empty. Where there are such, an input says so.
    """

    kind: ClassVar[Kind]
    name: str
    missing: float

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that a cell becomes."""

    @property
    @abstractmethod
    def range(self) -> str:
        """What the cells of training are, in few words."""

    @abstractmethod
    def encoded(self, cells: Cells) -> Tensor:
        """Inputs [N, len(inputs)] of cells."""

    def unseen(self, cells: Cells) -> list[str]:
        """Texts among the cells of which no training row had one."""
        return []

    @property
    def takes_unseen(self) -> bool:
        """Whether the network has an input for texts that no training row had."""
        return True

    @property
    def _indicator(self) -> tuple[str, ...]:
        return (f"{self.name} is missing",) if self.missing else ()

    def _with_indicator(self, inputs: Tensor, missing: Tensor) -> Tensor:
        """Inputs [N, I], and one that says where the cell is empty, `missing` [N]."""
        return torch.cat([inputs, missing[:, None].to(inputs.dtype)], dim=1) if self.missing else inputs


@dataclass(frozen=True)
class Numbers(Feature):
    """Numbers, standardised: 0 is the mean of training, as is an empty cell.

    Args:
        mean: Of the training rows.
        std: Their standard deviation (with 1/N); 0 where they are all equal, and every input is then 0.
        low: The smallest of them.
        high: The largest of them.
    """

    kind: ClassVar[Kind] = "numbers"
    mean: float
    std: float
    low: float
    high: float

    @property
    def inputs(self) -> tuple[str, ...]:
        """The number."""
        return (self.name, *self._indicator)

    @property
    def range(self) -> str:
        """Smallest and largest."""
        return f"{self.low:.4g} to {self.high:.4g}"

    def encoded(self, cells: Cells) -> Tensor:
        """The standardised number."""
        return self._with_indicator(self.standardised(cells.values)[:, None], cells.values.isnan())

    def standardised(self, values: Tensor) -> Tensor:
        """Numbers [N] on the scale of training, float32; NaN is 0."""
        scaled = (values - self.mean) / self.std if self.std else torch.zeros_like(values)
        return scaled.nan_to_num(0.0).float()


@dataclass(frozen=True)
class Texts(Feature):
    """Texts, one-hot.

    A text that no training row had is of none of them; where training rows have empty cells, a last input stands for
    these and for such a text alike.

    Args:
        values: The distinct texts of the training rows, sorted.
    """

    kind: ClassVar[Kind] = "text"
    values: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """One a text."""
        return (
            *(f"{self.name} = {value}" for value in self.values),
            *([f"{self.name} is unknown"] * self.takes_unseen),
        )

    @property
    def range(self) -> str:
        """How many there are, and the first of them."""
        return f"{len(self.values)} values: {', '.join(self.values[:3])}" + (", …" if self.values[3:] else "")

    @property
    def takes_unseen(self) -> bool:
        """Whether training rows have empty cells."""
        return self.missing > 0

    def encoded(self, cells: Cells) -> Tensor:
        """Ones where a cell is of the text."""
        assert cells.names is not None
        numbers = {name: number for number, name in enumerate(cells.names)}
        columns = torch.tensor([numbers.get(name, -2) for name in self.values], dtype=torch.int64)  # of no cell
        hot = torch.eq(cells.values[:, None], columns).float()
        return self._with_indicator(hot, ~hot.any(dim=1))

    def unseen(self, cells: Cells) -> list[str]:
        """Texts among the cells that are not among the values."""
        return sorted(set(cells.occurring()) - set(self.values))


@dataclass(frozen=True)
class Hashed(Feature):
    """Texts by a hash: two of one bucket are the same input (Weinberger et al. 2009, without its signs).

    Args:
        buckets: How many there are.
    """

    kind: ClassVar[Kind] = "hashed"
    buckets: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """One a bucket."""
        return tuple(f"{self.name} # {bucket}" for bucket in range(self.buckets)) + self._indicator

    @property
    def range(self) -> str:
        """How many buckets there are."""
        return f"{self.buckets} buckets"

    def encoded(self, cells: Cells) -> Tensor:
        """A one in the bucket of the text."""
        assert cells.names is not None
        buckets = torch.tensor([*(_bucket(name, self.buckets) for name in cells.names), -1])  # the last: an empty cell
        of_cells = buckets[cells.values]
        return self._with_indicator(torch.eq(of_cells[:, None], torch.arange(self.buckets)).float(), of_cells < 0)


@dataclass(frozen=True)
class Dates(Feature):
    """Dates, as the numbers of `PARTS`.

    Args:
        parts: What is known of each.
    """

    kind: ClassVar[Kind] = "date"
    parts: tuple[Numbers, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """One a part."""
        return (*(part.name for part in self.parts), *self._indicator)

    @property
    def range(self) -> str:
        """The years."""
        return f"{self.parts[0].low:.0f} to {self.parts[0].high:.0f}"

    def encoded(self, cells: Cells) -> Tensor:
        """The standardised parts."""
        parts = zip(self.parts, cells.values.unbind(dim=1), strict=True)
        inputs = torch.stack([part.standardised(values) for part, values in parts], dim=1)
        return self._with_indicator(inputs, cells.values[:, 0].isnan())


def fitted(name: str, kind: Kind, buckets: int, training: Sequence[Cells]) -> Feature:
    """What is known of a column from the training rows of all tables that have it."""
    values = torch.cat([each.values for each in training])
    empty = values < 0 if kind in ("text", "hashed") else values.view(len(values), -1)[:, 0].isnan()
    missing = empty.double().mean().item()
    if kind == "text":
        return Texts(name, missing, tuple(sorted({text for each in training for text in each.occurring()})))
    if kind == "hashed":
        return Hashed(name, missing, buckets)
    if kind == "date":
        columns = zip(PARTS, values.unbind(dim=1), strict=True)
        return Dates(name, missing, tuple(_numbers(f"{name} {part}", each, 0.0) for part, each in columns))
    return _numbers(name, values, missing)


def _numbers(name: str, values: Tensor, missing: float) -> Numbers:
    """What is known of numbers [N]."""
    seen = values[~values.isnan()]
    if not len(seen):
        return Numbers(name, missing, 0.0, 0.0, 0.0, 0.0)
    std, mean = torch.std_mean(seen, correction=0)
    low, high = seen.min().item(), seen.max().item()
    return Numbers(name, missing, mean.item(), std.item() if low < high else 0.0, low, high)


def _bucket(text: str, buckets: int) -> int:
    """The same on every machine, unlike Python's own hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % buckets
