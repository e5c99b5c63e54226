"""Rows of a table as a split. Nothing of the table's library is in it, which does not survive a fork."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.sources.images import ImageMode, ImageSplit
from datamodules.sources.memory import TensorSplit


class FeatureRows(TensorSplit):
    """Rows whose input is features.

    Args:
        table: The file's name.
        lines: [N] where each row stands in the file.
        features: [N, F].
        labels: task → [N, ...].
        labelled: task → [N] bool.
        groups: [N] rows with the same number belong together.
    """

    def __init__(
        self,
        table: str,
        lines: Tensor,
        features: Tensor,
        labels: dict[str, Tensor],
        labelled: dict[str, Tensor],
        groups: Tensor | None,
    ) -> None:
        super().__init__(features, labels, labelled, groups)
        self.table, self.lines = table, lines

    def name(self, row: int) -> str:
        """Where the row stands in the file."""
        return f"row {int(self.lines[row])} of {self.table}"

    def key(self, row: int) -> str:
        """Where the row stands in the file."""
        return str(int(self.lines[row]))

    def keys(self) -> list[str]:
        """Where the rows stand in the file."""
        return list(map(str, self.lines.tolist()))


class ImageRows(ImageSplit):
    """Rows whose input is an image, or an image and features: `{"image": …, "features": [F]}`.

    Args:
        table: The file.
        lines: [N] where each row stands in the file.
        paths: [N] the images, relative to the file's folder.
        mode: "RGB" for three channels, "L" for grey.
        features: [N, F], or None.
        labels: task → [N, ...].
        labelled: task → [N] bool.
        groups: [N] rows with the same number belong together.
    """

    def __init__(
        self,
        table: Path,
        lines: Tensor,
        paths: list[str],
        mode: ImageMode,
        features: Tensor | None,
        labels: dict[str, Tensor],
        labelled: dict[str, Tensor],
        groups: Tensor | None,
    ) -> None:
        super().__init__(table.parent, paths, labels, labelled, groups, mode)
        self.table, self.lines, self.features = table.name, lines, features

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """The input and the labels of one row."""
        image, labels = super().__getitem__(row)
        return (image if self.features is None else {"image": image, "features": self.features[row]}), labels

    def name(self, row: int) -> str:
        """Where the row stands in the file, and its image."""
        return f"row {int(self.lines[row])} of {self.table} ({self.paths[row]})"
