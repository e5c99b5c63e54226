"""What every target answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

FEW = 4  # numbers of a label that are all written out


@dataclass(frozen=True)
class Target(ABC):
    """One task's label: its values, their names or unit, and what the training split says of them.

    Whatever depends on the kind of a label asks the target: a kind of the user's own answers as ours do.

    Attributes:
        dense: Whether a label is a map of the image's height and width, which need not be held in memory.
        exclusive: Whether a row with a label is of exactly one class, by which rows can be divided.
    """

    dense: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers a head predicts for one row."""

    @property
    @abstractmethod
    def label_shape(self) -> tuple[int, ...]:
        """Shape of one row's label; -1 stands for any size."""

    @abstractmethod
    def invalid(self, labels: Tensor) -> Tensor:
        """Which of `labels` [N, ...] break the rule that `rule` words: bool [N]."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """What a label must be, in words of an error message."""

    def found(self, label: Tensor) -> str:
        """What one label [...] that breaks the rule is, in words that end an error message."""
        return str(label.tolist())

    def fitted(self, labels: Tensor) -> Self:
        """This target with the statistics of the training split's `labels` [N, ...], if it keeps any."""
        return self

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The user's own names of the C classes, by their numbers; None if there are no classes."""
        return None

    @property
    def class_shares(self) -> dict[str, float]:
        """Class → its share of the training labels, or of a class beside others how many rows have it; if known."""
        return {}

    def members(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Which row of `labels` [N, ...] is of which class: row and class numbers, both [M], the rows in order.

        A row may be of several classes or of none. Every class that is named here is to occur in training.
        """
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)

    def same_labels(self, other: Target) -> bool:
        """Whether the labels of another target mean the same: its kind, its classes and their order, its unit."""
        mine, theirs = (
            (type(each), each.class_names, getattr(each, "unit", None), each.outputs) for each in (self, other)
        )
        return mine == theirs

    def numbers_in(self, other: Target) -> Tensor | None:
        """The number [C] that each class has in another target, -1 for none; None where labels are no such numbers."""
        return None

    def typed(self, numbers: Tensor) -> Tensor:
        """Labels that were read as float64 `numbers` in the type in which they are held."""
        return numbers.to(torch.get_default_dtype())

    def on_image(self, label: Tensor) -> Tensor:
        """One row's label as what torchvision's transforms take it for, beside the image."""
        return label

    def describe(self, label: Tensor) -> str:
        """One row's label in the user's own names and unit; its shape, if it is of many numbers."""
        if label.numel() > FEW:
            return "×".join(str(size) for size in label.shape)
        return ", ".join(f"{number:.4g}" for number in label.flatten().tolist())

    def picture(self, label: Tensor) -> Tensor | None:
        """One row's label in colours, uint8 [3, H, W]; None if it cannot be seen."""
        return None

    def summary(self, sampled: Sequence[Tensor] = ()) -> str:
        """What the training split's labels are, in few words; empty if nothing is known.

        Args:
            sampled: Labels of some training rows, of a dense target.
        """
        return ""
