"""Rows that are held in memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Inputs, map_inputs
from datamodules.errors import DataError
from datamodules.sources.split import Split
from datamodules.targets import Target


class TensorSplit(Split):
    """Rows held in memory, fetched by indexing.

    Args:
        inputs: [N, ...], or one such tensor a modality.
        labels: task → [N, ...].
        labelled: task → [N] bool; a task that is not in it has a label on every row.
        groups: [N] rows with the same number belong together.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: dict[str, Tensor],
        labelled: dict[str, Tensor] | None = None,
        groups: Tensor | None = None,
    ) -> None:
        rows = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
        super().__init__(rows, labels, labelled, groups)
        self.inputs = map_inputs(_held, inputs)

    def __getitem__(self, row: int) -> tuple[Inputs, dict[str, Tensor]]:
        """Input and labels of one row."""
        return map_inputs(lambda x: x[row], self.inputs), self.labels_of(row)

    def __getitems__(self, rows: Tensor) -> tuple[Inputs, dict[str, Tensor]]:
        """Inputs [B, ...] and labels [B, ...] of `rows` [B], by indexing."""
        inputs = map_inputs(lambda x: x.index_select(0, rows), self.inputs)  # several times faster than x[rows]
        return inputs, {task: y.index_select(0, rows) for task, y in self._labels.items()}

    def check(self, targets: dict[str, Target]) -> None:
        """Refuse inputs that are not finite, labels that break their target's rule, and tensors that do not match."""
        for x in self.inputs.values() if isinstance(self.inputs, dict) else [self.inputs]:
            if len(x) != len(self):
                raise DataError(f"inputs of all modalities must have {len(self)} rows, found {len(x)}")
            if not x.is_floating_point() and x.dtype != torch.int64:
                raise DataError(f"inputs must be real numbers, or int64 where they are indices, found {x.dtype}")
            bad = ~x.reshape(len(x), -1).isfinite().all(dim=1)
            if bad.any():
                row = self.name(int(bad.nonzero()[0]))
                raise DataError(row, "an input must be finite", "NaN or infinity")
        super().check(targets)


def _held(x: Tensor) -> Tensor:
    """A copy, real numbers in the default type; NumPy asks for large pages, where rows at random are found sooner."""
    x = x.to(torch.get_default_dtype()) if x.is_floating_point() else x
    return torch.from_numpy(np.array(x.numpy(), order="C"))
