"""Targets of one label a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from datamodules.targets.base import Target
from datamodules.targets.words import shares, with_unit

LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Categorical(Target):
    """One of C classes; labels are int64 class indices [N].

    Args:
        classes: The user's own class names, in the order of the indices.
        counts: Training rows per class, in the same order.
    """

    exclusive: ClassVar[bool] = True
    classes: tuple[str, ...]
    counts: tuple[int, ...] = ()

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A class index."""
        return ()

    def invalid(self, labels: Tensor) -> Tensor:
        """Indices outside the classes."""
        return (labels < 0) | (labels >= len(self.classes)) | (labels != labels.long())

    @property
    def rule(self) -> str:
        """The range of the indices."""
        return f"a class index from 0 to {len(self.classes) - 1}"

    def fitted(self, labels: Tensor) -> Self:
        """With the class counts of `labels`."""
        counts = torch.bincount(labels.long(), minlength=len(self.classes))
        return replace(self, counts=tuple(counts.tolist()))

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    @override
    def class_shares(self) -> dict[str, float]:
        return {name: count / sum(self.counts) for name, count in zip(self.classes, self.counts)}  # noqa: B905  # or none

    @override
    def members(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(len(labels)), labels.long()

    @override
    def numbers_in(self, other: Target) -> Tensor | None:
        if not isinstance(other, Categorical):
            return None
        numbers = {name: number for number, name in enumerate(other.classes)}
        return torch.tensor([numbers.get(name, -1) for name in self.classes])

    @override
    def typed(self, numbers: Tensor) -> Tensor:
        whole = torch.equal(numbers, numbers.round())  # others stay real, for `invalid` to refuse
        return numbers.long() if whole else super().typed(numbers)

    @override
    def describe(self, label: Tensor) -> str:
        return self.classes[int(label)]

    @override
    def summary(self, sampled: Sequence[Tensor] = ()) -> str:
        return shares(self.class_shares)


@dataclass(frozen=True)
class Binary(Target):
    """Yes or no; labels are 0 or 1, float [N].

    Args:
        names: The user's own names of 0 and 1.
        positives: Share of ones among the training rows.
    """

    exclusive: ClassVar[bool] = True
    names: tuple[str, str] = ("no", "yes")
    positives: float = 0.5

    @property
    def outputs(self) -> int:
        """One logit."""
        return 1

    @property
    def label_shape(self) -> tuple[int, ...]:
        """One number."""
        return ()

    def invalid(self, labels: Tensor) -> Tensor:
        """Anything but 0 and 1."""
        return (labels != 0) & (labels != 1)

    @property
    def rule(self) -> str:
        """The two values."""
        return "0 or 1"

    def fitted(self, labels: Tensor) -> Self:
        """With the share of ones in `labels`."""
        return replace(self, positives=labels.double().mean().item())

    @property
    @override
    def class_names(self) -> tuple[str, str]:
        return self.names

    @property
    @override
    def class_shares(self) -> dict[str, float]:
        return {self.names[0]: 1 - self.positives, self.names[1]: self.positives}

    @override
    def members(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(len(labels)), labels.long()

    @override
    def describe(self, label: Tensor) -> str:
        return self.names[int(label)]

    @override
    def summary(self, sampled: Sequence[Tensor] = ()) -> str:
        return shares(self.class_shares)


@dataclass(frozen=True)
class MultiLabel(Target):
    """Any subset of C classes; labels are 0 or 1 a class, float [N, C].

    Args:
        classes: The user's own class names, in the order of the columns.
        positives: Share of ones among the training rows, per class.
    """

    classes: tuple[str, ...]
    positives: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """One number a class."""
        return (len(self.classes),)

    def invalid(self, labels: Tensor) -> Tensor:
        """Rows with anything but zeros and ones."""
        return ((labels != 0) & (labels != 1)).any(dim=1)

    @property
    def rule(self) -> str:
        """The two values."""
        return f"{len(self.classes)} values of 0 or 1"

    def fitted(self, labels: Tensor) -> Self:
        """With the share of ones in each column of `labels`."""
        return replace(self, positives=tuple(labels.double().mean(dim=0).tolist()))

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    @override
    def class_shares(self) -> dict[str, float]:
        return dict(zip(self.classes, self.positives))  # noqa: B905  # or none

    @override
    def members(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = labels.bool().nonzero(as_tuple=True)
        return rows, classes

    @override
    def describe(self, label: Tensor) -> str:
        return ", ".join(name for name, there in zip(self.classes, label.tolist(), strict=True) if there) or "none"

    @override
    def summary(self, sampled: Sequence[Tensor] = ()) -> str:
        return shares(self.class_shares)


@dataclass(frozen=True)
class Continuous(Target):
    """A real number; labels are float [N], in the user's own unit.

    Args:
        unit: What the number counts or measures; None if nothing.
        mean: Mean of the training rows.
        std: Their standard deviation (with 1/N), or 1 if they are all equal.
    """

    unit: str | None = None
    mean: float = 0.0
    std: float = 1.0

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    @property
    def label_shape(self) -> tuple[int, ...]:
        """One number."""
        return ()

    def invalid(self, labels: Tensor) -> Tensor:
        """Infinities, NaN, and numbers beyond those of 32 bits."""
        return ~(labels.abs() <= LARGEST)

    @property
    def rule(self) -> str:
        """Finiteness."""
        return f"a finite number within ±{LARGEST:.3g}"

    def fitted(self, labels: Tensor) -> Self:
        """With mean and standard deviation of `labels`."""
        std, mean = torch.std_mean(labels.double(), correction=0)
        return replace(self, mean=mean.item(), std=std.item() or 1.0)

    @override
    def describe(self, label: Tensor) -> str:
        return with_unit(f"{label.item():.4g}", self.unit)

    @override
    def summary(self, sampled: Sequence[Tensor] = ()) -> str:
        return with_unit(f"mean {self.mean:.4g}, std {self.std:.4g}", self.unit)
