"""Images that a user has in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from datamodules.sources.images import converted
from datamodules.sources.split import Split


class Pictures(Split):
    """Rows whose input is a PIL image.

    Args:
        images: [N].
        mode: "RGB" for three channels, "L" for grey.
        features: [N, F] beside them, or None.
    """

    def __init__(self, images: Sequence[Image.Image], mode: str, features: Tensor | None = None) -> None:
        super().__init__(len(images), {})
        self.images, self.mode, self.features = images, mode, features

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """The image, as one that is read from a file; or it and the features."""
        image = converted(self.images[row], self.mode, self.name(row))
        return (image if self.features is None else {"image": image, "features": self.features[row]}), {}
