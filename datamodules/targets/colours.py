"""Maps in colours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = 0.618034  # steps around the circle of hues that stay apart, however many
NONE = 0.25  # grey where there is no value


def of_classes(indices: Tensor, valid: Tensor, classes: int) -> Tensor:
    """A colour of its own for each of the `classes`; uint8 [3, H, W] of indices and a mask [H, W]."""
    from matplotlib.colors import hsv_to_rgb

    hues = np.arange(classes) * GOLDEN % 1
    colours = hsv_to_rgb(np.stack([hues, np.full(classes, 0.6), np.full(classes, 0.9)], axis=1))
    return _shown(np.moveaxis(colours[torch.where(valid, indices, 0).long().numpy()], -1, 0), valid)


def of_numbers(numbers: Tensor, valid: Tensor) -> Tensor:
    """From dark to bright, from the least to the largest; uint8 [3, H, W] of numbers and a mask [H, W]."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    known = np.ma.masked_array(numbers.double().numpy(), ~valid.numpy())
    return _shown(np.moveaxis(colormaps["magma"](Normalize()(known))[..., :3], -1, 0), valid)


def of_vectors(vectors: Tensor, valid: Tensor) -> Tensor:
    """The first three components as red, green and blue, from -1 to 1; uint8 [3, H, W] of [D, H, W] and a mask."""
    first = vectors[:3].double().numpy()
    return _shown((np.pad(first, ((0, 3 - len(first)), (0, 0), (0, 0))) + 1) / 2, valid)


def _shown(colours: NDArray[np.float64], valid: Tensor) -> Tensor:
    """Colours [3, H, W] in [0, 1] as bytes, grey where there is no value."""
    seen = np.where(valid.numpy(), colours, NONE)
    return torch.from_numpy((seen.clip(0, 1) * 255).round().astype(np.uint8))
