"""What a network has learned beside its features, to be shown."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn


class Learned(NamedTuple):
    """A number, or a matrix with names.

    Attributes:
        values: [] or [R, C].
        rows: [R] names.
        columns: [C] names.
        least: the value at the lower end of its colours.
        most: the value at their upper end.
    """

    values: Tensor
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    least: float = -1.0
    most: float = 1.0


class Gates(NamedTuple):
    """Gates over the same experts.

    Attributes:
        each: whose it is → a gate, which gives weights [B, E] of B rows.
        experts: [E] names.
    """

    each: Mapping[str, nn.Module]
    experts: Sequence[str]
