"""A simple decoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.heads.dense import DenseHead, convolution, map_stage, resized


class UpsamplingHead(DenseHead):
    """From the last map down to the first: resize to the next larger map, add that map, convolve.

    The top-down path of Lin et al., "Feature Pyramid Networks for Object Detection" (2017), with group normalisation:
    a row's prediction does not depend on which rows are beside it.
    """

    def __init__(self, channels: list[int], outputs: int, width: int = 128, lowest: int = 0) -> None:
        """Build the layers.

        Args:
            channels: the backbone's channels, one a stage.
            outputs: numbers predicted for a pixel.
            width: channels of the decoder.
            lowest: the first of the stages whose maps are read; a higher one costs less and is coarser.

        Raises:
            ValueError: the backbone has no such stage below its last one.
        """
        super().__init__()
        self.stages = range(map_stage(channels, lowest, "lowest"), len(channels) - 1)
        self.lateral = nn.ModuleList(nn.Conv2d(channels[stage], width, 1) for stage in self.stages)
        self.layers = nn.ModuleList(convolution(width, width) for _ in self.stages)
        self.output = nn.Conv2d(width, outputs, 1)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs, h, w] at the size of the lowest stage's map."""
        x: Tensor | None = None
        for stage, lateral, layer in reversed(list(zip(self.stages, self.lateral, self.layers, strict=True))):
            below = lateral(self.map(features, stage))
            x = layer(below if x is None else below + resized(x, below.shape[2:]))
        prediction: Tensor = self.output(x)
        return prediction
