"""Some of a batch's rows."""

from torch import Tensor

from models.backbones.base import Inputs
from models.lazy import LazyFeatures


class RowsOf(LazyFeatures):
    """Some rows of every feature, gathered only where a feature is read: a head reads one or few of the stages."""

    def __init__(self, features: list[Tensor], rows: Tensor | list[Tensor]) -> None:
        """Keep features [B, ...] and the rows [B_t] to take of them, or those to take of each."""
        self.features = features
        self.rows = [rows] * len(features) if isinstance(rows, Tensor) else rows

    def __len__(self) -> int:
        """Number of stages."""
        return len(self.features)

    def at(self, stage: int) -> Tensor:
        """The rows of a stage's feature, [B_t, ...]."""
        return take(self.features[stage], self.rows[stage])


def gather(inputs: Inputs, rows: Tensor) -> Inputs:
    """The rows [N] of the inputs, in this order."""
    if isinstance(inputs, dict):
        return {modality: x.index_select(0, rows) for modality, x in inputs.items()}
    return inputs.index_select(0, rows)


def size_of(inputs: Inputs) -> int:
    """Number of rows of a batch."""
    x = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    return x.shape[0]


def take_inputs(inputs: Inputs, rows: Tensor) -> Inputs:
    """The rows of a batch of inputs, of every modality."""
    if isinstance(inputs, dict):
        return {modality: take(x, rows) for modality, x in inputs.items()}
    return take(inputs, rows)


def take(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of a batch [B, ...]; the batch itself where these are all of them."""
    return x if rows.shape[0] == x.shape[0] else x.index_select(0, rows)  # len() would be a constant in an export
