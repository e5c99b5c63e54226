"""What every target answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Target(ABC):
    """One task's label: its values, their names or unit, and what the training split says of them."""

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

    @abstractmethod
    def fitted(self, labels: Tensor) -> Self:
        """This target with the statistics of the training split's `labels` [N, ...]."""
