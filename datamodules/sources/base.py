"""What every dataset format gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from datamodules.batch import Inputs, map_inputs
from datamodules.targets import Target

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Split(ABC):
    """The rows of one source that are for training, for validation or for the test.

    Attributes:
        labelled: task → [N] bool: which rows carry its label. The sampler counts on it beforehand.
    """

    labelled: dict[str, Tensor]

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows N."""

    @abstractmethod
    def __getitems__(self, rows: list[int]) -> tuple[Inputs, dict[str, Tensor]]:
        """Inputs [B, ...] and task → labels [B, ...] of `rows`; the label of an unlabelled row is never read."""

    @abstractmethod
    def check(self, targets: dict[str, Target]) -> None:
        """Raise a ValueError that names the row, the rule and the value of the first bad input or label."""

    @abstractmethod
    def labels(self, task: str) -> Tensor:
        """Labels [N_t, ...] of the rows that carry one."""


class Source(ABC):
    """A dataset: the targets that it carries, and its three splits.

    Attributes:
        targets: task → what its label is.
    """

    targets: dict[str, Target]

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """The rows for training ("train"), validation ("val") or test ("test")."""


class TensorSplit(Split):
    """Rows held in memory, fetched by indexing.

    Args:
        inputs: [N, ...], or one such tensor a modality.
        labels: task → [N, ...].
        labelled: task → [N] bool; a task that is not in it has a label on every row.
    """

    def __init__(self, inputs: Inputs, labels: dict[str, Tensor], labelled: dict[str, Tensor] | None = None) -> None:
        self.inputs = map_inputs(lambda x: x.to(torch.get_default_dtype()) if x.is_floating_point() else x, inputs)
        self._labels = labels
        everywhere = torch.ones(len(self), dtype=torch.bool)
        self.labelled = {task: (labelled or {}).get(task, everywhere) for task in labels}

    def __len__(self) -> int:
        """Number of rows N."""
        return len(next(iter(self.inputs.values())) if isinstance(self.inputs, dict) else self.inputs)

    def __getitems__(self, rows: list[int]) -> tuple[Inputs, dict[str, Tensor]]:
        """Inputs and labels of `rows`, by indexing."""
        index = torch.as_tensor(rows)
        return map_inputs(lambda x: x[index], self.inputs), {task: y[index] for task, y in self._labels.items()}

    def labels(self, task: str) -> Tensor:
        """Labels [N_t, ...] of the rows that carry one."""
        return self._labels[task][self.labelled[task]]

    def check(self, targets: dict[str, Target]) -> None:
        """Refuse inputs that are not finite, labels that break their target's rule, and tensors that do not match."""
        for x in self.inputs.values() if isinstance(self.inputs, dict) else [self.inputs]:
            if len(x) != len(self):
                raise ValueError(f"inputs of all modalities must have {len(self)} rows, found {len(x)}")
            if not x.is_floating_point() and x.dtype != torch.int64:
                raise ValueError(f"inputs must be real numbers, or int64 where they are indices, found {x.dtype}")
            bad = ~x.reshape(len(x), -1).isfinite().all(dim=1)
            if bad.any():
                raise ValueError(f"row {int(bad.nonzero()[0])}: an input must be finite, found NaN or infinity")
        for task, labels in self._labels.items():
            shape = (len(self), *targets[task].label_shape)
            if labels.shape != shape:
                raise ValueError(f"target {task!r}: labels must have the shape {shape}, found {tuple(labels.shape)}")
            mask = self.labelled[task]
            if mask.dtype != torch.bool or mask.shape != (len(self),):
                raise ValueError(
                    f"target {task!r}: `labelled` must be bool of the shape {(len(self),)}, "
                    f"found {mask.dtype} of {tuple(mask.shape)}"
                )
            bad = targets[task].invalid(labels) & mask
            if bad.any():
                row = int(bad.nonzero()[0])
                found = labels[row].tolist()
                raise ValueError(f"row {row}, target {task!r}: a label must be {targets[task].rule}, found {found}")
