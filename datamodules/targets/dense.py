"""Targets of one label a pixel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from datamodules.errors import DataError
from datamodules.targets import colours
from datamodules.targets.base import Target
from datamodules.targets.maps import ClassMap, Map, ValueMap, VectorMap
from datamodules.targets.words import shares, with_unit


@dataclass(frozen=True)
class Dense(Target):
    """A value for each pixel of the input image, as a map of the image's height and width; some pixels may lack one.

    Attributes:
        map_kind: How such a map moves with its image.
    """

    dense: ClassVar[bool] = True
    map_kind: ClassVar[type[Map]] = ValueMap

    @property
    @abstractmethod
    def missing(self) -> float:
        """What stands in a label where there is no value."""

    @abstractmethod
    def valid(self, labels: Tensor) -> Tensor:
        """Which pixels of `labels` [N, ...] have a value: bool [N, H, W]."""

    @abstractmethod
    def broken(self, labels: Tensor) -> Tensor:
        """Which pixels of `labels` [N, ...] break the rule: bool [N, H, W]."""

    def invalid(self, labels: Tensor) -> Tensor:
        """Rows with a pixel that breaks the rule, or without a value: such a row does not carry the task."""
        return self.broken(labels).any((1, 2)) | ~self.valid(labels).any((1, 2))

    def found(self, label: Tensor) -> str:
        """The first pixel that breaks the rule, or that there is no value."""
        pixels = self.broken(label[None])[0].nonzero().tolist()
        if not pixels:
            return f"{self.missing:g} everywhere"
        y, x = pixels[0]
        return f"{label[..., y, x].tolist()} at pixel ({y}, {x})"

    @override
    def on_image(self, label: Tensor) -> Tensor:
        return label if isinstance(label, Map) else label.as_subclass(self.map_kind)

    @override
    def describe(self, label: Tensor) -> str:
        values, missing = self._known([label])
        parts = [self.in_words(values), f"{missing:.0%} missing" if missing else ""]
        return ", ".join(part for part in parts if part)

    @override
    def summary(self, sampled: Sequence[Tensor] = ()) -> str:
        if not sampled:
            return "no row can be read"
        values, missing = self._known(sampled)
        return ", ".join(part for part in (self.statistics(values), f"{missing:.1%} missing") if part)

    def in_words(self, values: Tensor) -> str:
        """The P values of one map, [P] or [D, P], in few words."""
        return ""

    def statistics(self, values: Tensor) -> str:
        """The P values of many maps, [P] or [D, P], in few words."""
        return ""

    def _known(self, labels: Sequence[Tensor]) -> tuple[Tensor, float]:
        """The values of maps, [P] or [D, P], and the share of pixels without one."""
        valid = [self.valid(label[None])[0] for label in labels]
        values = torch.cat([label[..., mask] for label, mask in zip(labels, valid, strict=True)], dim=-1)
        return values, 1 - values.shape[-1] / max(sum(mask.numel() for mask in valid), 1)


@dataclass(frozen=True)
class DenseCategorical(Dense):
    """One of C classes a pixel; labels are int64 class indices [N, H, W].

    Args:
        classes: The user's own class names, in the order of the indices.
        ignore_index: Stands where a pixel is of none of them.

    Raises:
        ValueError: `ignore_index` is the index of a class.
    """

    map_kind: ClassVar[type[Map]] = ClassMap
    classes: tuple[str, ...]
    ignore_index: int = -1

    def __post_init__(self) -> None:
        if 0 <= self.ignore_index < len(self.classes):
            raise DataError(
                "ignore_index", f"must not be the index of a class, 0 to {len(self.classes) - 1}", self.ignore_index
            )

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A map."""
        return (-1, -1)

    @property
    def missing(self) -> float:
        """The index that is ignored."""
        return self.ignore_index

    def valid(self, labels: Tensor) -> Tensor:
        """All but the ignored index."""
        return labels != self.ignore_index

    def broken(self, labels: Tensor) -> Tensor:
        """Indices outside the classes."""
        outside = (labels < 0) | (labels >= len(self.classes)) | (labels != labels.long())
        return outside & self.valid(labels)

    @property
    def rule(self) -> str:
        """The range of the indices."""
        return (
            f"a map of class indices from 0 to {len(self.classes) - 1}, "
            f"or {self.ignore_index} where there is none, but not everywhere"
        )

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @override
    def in_words(self, values: Tensor) -> str:
        return f"{int((values.long().bincount() > 0).sum())} classes"

    @override
    def statistics(self, values: Tensor) -> str:
        counts = values.long().bincount(minlength=len(self.classes)) / max(len(values), 1)
        return shares(dict(zip(self.classes, counts.tolist(), strict=True)))

    @override
    def picture(self, label: Tensor) -> Tensor:
        return colours.of_classes(label, self.valid(label), len(self.classes))


@dataclass(frozen=True)
class DenseContinuous(Dense):
    """A real number a pixel; labels are float [N, H, W], in the user's own unit, NaN where there is none.

    It is learned as it is and not standardised.

    Args:
        unit: What the number counts or measures; empty if nothing.
    """

    unit: str = ""

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A map."""
        return (-1, -1)

    @property
    def missing(self) -> float:
        """Not a number."""
        return torch.nan

    def valid(self, labels: Tensor) -> Tensor:
        """All but NaN."""
        return ~labels.isnan()

    def broken(self, labels: Tensor) -> Tensor:
        """Infinities."""
        return labels.isinf()

    @property
    def rule(self) -> str:
        """Finiteness."""
        return "a map of finite numbers, or NaN where there is none, but not everywhere"

    @override
    def in_words(self, values: Tensor) -> str:
        return with_unit(f"{values.min():.3g} to {values.max():.3g}", self.unit) if len(values) else ""

    @override
    def statistics(self, values: Tensor) -> str:
        std, mean = torch.std_mean(values.double(), correction=0)
        return with_unit(f"mean {mean:.4g}, std {std:.4g}", self.unit)

    @override
    def picture(self, label: Tensor) -> Tensor:
        return colours.of_numbers(label, self.valid(label))


@dataclass(frozen=True)
class UnitVectors(Dense):
    """A direction a pixel, such as a surface's normal; labels are float [N, D, H, W] of length 1, zeros without one.

    Args:
        dimensions: D.
    """

    map_kind: ClassVar[type[Map]] = VectorMap
    dimensions: int = 3

    @property
    def outputs(self) -> int:
        """A vector of any length, of which the direction counts."""
        return self.dimensions

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A map a component."""
        return (self.dimensions, -1, -1)

    @property
    def missing(self) -> float:
        """Zero, in every component."""
        return 0.0

    def valid(self, labels: Tensor) -> Tensor:
        """All but zero vectors."""
        return (labels != 0).any(dim=1)

    def broken(self, labels: Tensor) -> Tensor:
        """Lengths that are not 1 within a thousandth."""
        lengths: Tensor = torch.linalg.vector_norm(labels, dim=1)
        return self.valid(labels) & ~((lengths - 1).abs() <= 1e-3)

    @property
    def rule(self) -> str:
        """The length."""
        return f"{self.dimensions} maps, of vectors of length 1, or of zeros where there is none, but not everywhere"

    @override
    def picture(self, label: Tensor) -> Tensor:
        return colours.of_vectors(label, self.valid(label[None])[0])
