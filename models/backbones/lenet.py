"""The LeNet of the MultiMNIST experiments."""

from collections.abc import Sequence

from torch import nn

from models.backbones.base import Backbone
from models.bounds import check_probability, check_sizes
from models.errors import ConfigurationError


class LeNet(Backbone):
    """Convolutions with max-pooling, then one linear layer.

    The defaults are the shared trunk of Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization" (2018);
    `dropout` adds the channel dropout of Kurin et al., "In Defense of the Unitary Scalarization for Deep Multi-Task
    Learning" (2022).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        widths: Sequence[int] = (10, 20),
        kernel_size: int = 5,
        padding: int = 0,
        features: int = 50,
        dropout: float = 0.0,
    ) -> None:
        """Build the stages: one a convolution, one for the linear layer.

        Args:
            input_shape: shape of one image, (channels, height, width).
            widths: output channels of every convolution.
            kernel_size: height and width of the kernels.
            padding: zeros added on every side before a convolution.
            features: width of the linear layer, the size of the embedding.
            dropout: chance to drop a channel of the last convolution, before its pooling.

        Raises:
            ValueError: a size or the chance cannot be, or the image is no image, or too small for so many poolings.
        """
        super().__init__()
        check_sizes("backbone.widths", widths)
        check_sizes("backbone.kernel_size, backbone.features", [kernel_size, features])
        check_probability("backbone.dropout", dropout)
        channels, *size = _checked(input_shape, widths, kernel_size, padding)
        self.layers = nn.ModuleList()
        for i, width in enumerate(widths):
            drop = [nn.Dropout2d(dropout)] if dropout and i == len(widths) - 1 else []
            convolution = nn.Conv2d(channels, width, kernel_size, padding=padding)
            self.layers.append(nn.Sequential(convolution, *drop, nn.MaxPool2d(2), nn.ReLU()))
            channels = width
        self.layers.append(nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], features), nn.ReLU()))
        self.channels = [*widths, features]

    @property
    def stages(self) -> list[nn.Module]:
        """The convolutions and the linear layer."""
        return list(self.layers)


def _checked(
    input_shape: tuple[int, ...], widths: Sequence[int], kernel_size: int, padding: int
) -> tuple[int, int, int]:
    """Channels of the image, and height and width of the last map."""
    if len(input_shape) != 3:
        raise ConfigurationError("input_shape", "LeNet reads images (channels, height, width)", tuple(input_shape))
    channels, height, width = input_shape
    for _ in widths:
        height, width = ((side + 2 * padding - kernel_size + 1) // 2 for side in (height, width))
    if min(height, width) < 1:
        raise ConfigurationError(
            "input_shape",
            f"{tuple(input_shape)} is too small for backbone.widths {list(widths)}: {len(widths)} "
            "poolings leave no pixel",
        )
    return channels, height, width
