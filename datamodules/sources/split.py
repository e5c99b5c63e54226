"""Rows of a dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.targets import Target

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Split(ABC):
    """The rows of one source that are for training, for validation or for the test.

    Labels are held in memory; inputs are read row by row. A split that can give the inputs of many rows at once has
    `__getitems__` too.

    Args:
        rows: Number of rows N.
        labels: task → [N, ...]; the label of a row that carries none is never read.
        labelled: task → [N] bool: which rows carry its label; a task that is not in it has a label on every row.
        groups: [N] rows with the same number belong together: no two folds share a group.

    Attributes:
        labelled: task → [N] bool, for every task. The sampler counts on it beforehand.
    """

    def __init__(
        self,
        rows: int,
        labels: dict[str, Tensor],
        labelled: dict[str, Tensor] | None = None,
        groups: Tensor | None = None,
    ) -> None:
        everywhere = torch.ones(rows, dtype=torch.bool)
        self._rows, self._labels, self.groups = rows, labels, groups
        self.labelled = {task: (labelled or {}).get(task, everywhere) for task in labels}

    def __len__(self) -> int:
        """Number of rows N."""
        return self._rows

    @abstractmethod
    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """One row's input (an image, a tensor, or a dict of them, a modality each) and its labels.

        Raises:
            UnreadableRowError: The input cannot be read.
        """

    def holds(self, task: str) -> bool:
        """Whether the labels of a task that the rows carry are in memory; maps may be read with the input alone."""
        return task in self._labels

    def labels(self, task: str) -> Tensor:
        """Labels [N_t, ...] of the rows that carry one, where they are in memory."""
        return self._labels[task][self.labelled[task]]

    def renumber(self, task: str, numbers: Tensor) -> int:
        """Give every class of a task another number, of `numbers` [C]; rows of one below 0 lose their label.

        Returns:
            How many did.
        """
        labels, labelled = self._labels[task], self.labelled[task]
        new = torch.where(labelled, numbers[labels.long()], 0)
        self._labels[task], self.labelled[task] = new.clamp_min(0), labelled & (new >= 0)
        return int((new < 0).sum())

    def labels_of(self, row: int) -> dict[str, Tensor]:
        """Task → label of one row."""
        return {task: labels[row] for task, labels in self._labels.items()}

    def name(self, row: int) -> str:
        """What the user calls a row, for messages: where it stands in their file, and the file of its input."""
        return f"row {row}"

    def key(self, row: int) -> str:
        """What tells a row from the others in the user's own data, for the table of predictions."""
        return str(row)

    def keys(self) -> list[str]:
        """The `key` of every row; for many rows of a tensor, to give them at once is ten times as fast."""
        return [self.key(row) for row in range(len(self))]

    def missing(self) -> list[int]:
        """Rows whose file is not there, found without opening any."""
        return []

    def check(self, targets: dict[str, Target]) -> None:
        """Refuse labels that break their target's rule, and tensors that do not match.

        Raises:
            ValueError: Naming the row, the rule and the value of the first bad label.
        """
        for task, labels in self._labels.items():
            shape = (len(self), *targets[task].label_shape)
            sizes = zip(labels.shape, shape, strict=False)
            if labels.ndim != len(shape) or any(size != wanted for size, wanted in sizes if wanted != -1):
                raise DataError(f"target {task!r}", f"labels must have the shape {shape}", tuple(labels.shape))
            mask = self.labelled[task]
            if mask.dtype != torch.bool or mask.shape != (len(self),):
                raise DataError(
                    f"target {task!r}",
                    f"`labelled` must be bool of the shape {(len(self),)}",
                    f"{mask.dtype} of {tuple(mask.shape)}",
                )
            bad = targets[task].invalid(labels) & mask
            if bad.any():
                row = int(bad.nonzero()[0])
                rule, found = targets[task].rule, targets[task].found(labels[row])
                raise DataError(f"{self.name(row)}, target {task!r}", f"a label must be {rule}", found)
