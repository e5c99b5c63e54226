"""How often classes occur and are predicted, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_CLASSES = 256  # of which each pair is counted: more fill no picture, and their matrix would be large


@dataclass(frozen=True)
class ClassCounts:
    """Counts of some rows' classes, all int64.

    Attributes:
        support: [C] rows that are of the class.
        predicted: [C] rows that are said to be.
        hits: [C] rows that are both.
        rows: How many there are. Each is of one class, unless there are several labels a row.
        matrix: [C, C] rows of one class (first) that are said to be of another; None if rows may be of several
            classes, or there are more than 256.
    """

    support: Tensor
    predicted: Tensor
    hits: Tensor
    rows: int
    matrix: Tensor | None = None

    @classmethod
    def of_matrix(cls, matrix: Tensor) -> ClassCounts:
        """What a confusion matrix [C, C] tells, true classes first."""
        return cls(matrix.sum(1), matrix.sum(0), matrix.diagonal(), int(matrix.sum()), matrix)

    @property
    def precision(self) -> Tensor:
        """[C] share of the rows said to be of a class that are; NaN where there are none."""
        return self.hits.double() / self.predicted

    @property
    def recall(self) -> Tensor:
        """[C] share of a class's rows that are said to be of it; NaN where there are none."""
        return self.hits.double() / self.support

    @property
    def f1(self) -> Tensor:
        """[C] harmonic mean of precision and recall; NaN of a class that neither occurs nor is predicted."""
        return 2 * self.hits.double() / (self.support + self.predicted)

    def balanced_accuracy(self) -> Tensor:
        """Mean recall of the classes that occur."""
        return self.recall.nanmean()

    def macro_f1(self) -> Tensor:
        """Mean F1 of the classes that occur or are predicted."""
        return self.f1.nanmean()


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """The confusion matrix [C, C] of class indices [N] and [N], true classes first."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
