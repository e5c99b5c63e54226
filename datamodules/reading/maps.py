"""How labels of a value a pixel move with their image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.errors import DataError
from datamodules.targets import Target
from datamodules.targets.maps import Map


class RandomScaledCrop(v2.Transform):  # type: ignore[misc]
    """Crop a random part of the image and enlarge it to the image's size, as if the camera had come nearer.

    The augmentation of MTAN's code, which most work on NYUv2 uses: the part's height and width are those of the image
    divided by a scale, drawn from `scales`; depth is divided by it; classes and normals stay what they are. Theirs
    interpolates normals, which makes other lengths than 1 and mixes normals with missing ones, and divides inverse
    depth too; here each pixel takes the nearest normal, and inverse depth is multiplied.

    Args:
        scales: What the scale is drawn from, each as probable as the others; 1 leaves the image as it is.

    Raises:
        ValueError: A scale is less than 1, or there is none.
    """

    def __init__(self, scales: Sequence[float] = (1.0, 1.2, 1.5)) -> None:
        super().__init__()
        if not scales or min(scales) < 1:
            raise DataError("scales", "must be numbers of at least 1", list(scales))
        self.scales = tuple(scales)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """A scale, and the corner of the part. Called by torchvision."""
        scale = self.scales[int(torch.randint(len(self.scales), ()))]
        size = v2.query_size(flat_inputs)
        height, width = (int(side / scale) for side in size)
        top, left = (int(torch.randint(free + 1, ())) for free in (size[0] - height, size[1] - width))
        return {"scale": scale, "size": size, "box": (top, left, height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop, enlarge and scale an image or a label. Called by torchvision."""
        if params["scale"] == 1:
            return inpt
        part = self._call_kernel(functional.crop, inpt, *params["box"])
        whole = self._call_kernel(functional.resize, part, list(params["size"]))
        return whole.zoomed(params["scale"]) if isinstance(whole, Map) else whole


def as_maps(targets: Mapping[str, Target], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `labels` of one row, those that lie on the image as what moves with it."""
    return {task: targets[task].on_image(label) if task in targets else label for task, label in labels.items()}
