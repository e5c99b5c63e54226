"""What every head of a prediction a pixel answers."""

from abc import abstractmethod
from collections.abc import Sequence
from math import gcd, isqrt

import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.heads.base import Head


class DenseHead(Head):
    """Turns the feature maps of a task's rows into a prediction for each pixel of the input.

    It reads stages below the last one, which gives the embedding and no map.

    Attributes:
        size: height and width of the input, which the application sets: features do not tell it.
    """

    size: tuple[int, int]

    @abstractmethod
    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs, h, w] in any resolution, from the features of the backbone's stages."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs, H, W] at the input's size."""
        return resized(self.decode(features), self.size)

    def map(self, features: Sequence[Tensor], stage: int) -> Tensor:
        """The feature of a stage as a map [B, C, h, w].

        The tokens [B, N, C] of a vision transformer lie on a grid of square patches; those before it (of the class,
        registers) are left out.

        Raises:
            ValueError: the backbone's stage gives vectors.
        """
        feature = features[stage]
        if feature.ndim == 4:
            return feature
        if feature.ndim != 3:
            raise ConfigurationError(
                "a dense head needs stages of maps [B, C, H, W] or tokens [B, N, C] in the backbone, "
                f"found stage {stage} of shape {['B', *feature.shape[1:]]}"
            )
        height, width = (side // gcd(*self.size) for side in self.size)  # in lowest terms
        scale = isqrt(feature.shape[1] // (height * width))
        height, width = scale * height, scale * width
        return feature[:, -height * width :].mT.reshape(feature.shape[0], -1, height, width)


def map_stage(channels: list[int], stage: int, option: str) -> int:
    """A stage that a dense head may read, counted from the input.

    Args:
        channels: the backbone's channels, one a stage.
        stage: negative counts from the output.
        option: what the config calls it.

    Raises:
        ValueError: there is no such stage below the last one.
    """
    place = stage if stage >= 0 else len(channels) + stage
    if not 0 <= place < len(channels) - 1:
        raise ConfigurationError(
            f"head.{option}", f"a dense head reads a stage below the last one of the backbone's {len(channels)}", stage
        )
    return place


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [B, C, h, w] in another size, by bilinear interpolation."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def convolution(channels: int, width: int, kernel_size: int = 3, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the size, group normalisation of at least 8 channels a group, ReLU."""
    padding = dilation * (kernel_size // 2)
    layer = nn.Conv2d(channels, width, kernel_size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.GroupNorm(gcd(max(1, width // 8), width), width), nn.ReLU())
