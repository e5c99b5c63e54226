"""What every head answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from models.errors import ConfigurationError


class Head(nn.Module, ABC):
    """Turns the features of a task's rows into its prediction.

    The first two arguments of a subclass are `channels`, the backbone's channels, one a stage, and `outputs`, the
    width of the prediction. Both are supplied by the application, all other arguments by the config.
    """

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs] from the features of the backbone's stages."""


def pooled(feature: Tensor) -> Tensor:
    """A feature as a vector [B, C]: maps [B, C, H, W] and tokens [B, N, C] are averaged, vectors as they are."""
    if feature.ndim == 4:
        return feature.mean((2, 3))
    return feature.mean(1) if feature.ndim == 3 else feature


def stage_channels(channels: list[int], stage: int) -> int:
    """Channels of the stage that a head reads, counted from the input or, if negative, from the output.

    Raises:
        ValueError: the backbone has no such stage.
    """
    if not -len(channels) <= stage < len(channels):
        raise ConfigurationError("head.stage", f"the backbone has {len(channels)} stages", stage)
    return channels[stage]
