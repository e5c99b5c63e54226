"""The decoder of DeepLabV3+."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads.dense import DenseHead, convolution, map_stage, resized

LOW_WIDTH = 48  # channels that the lower stage is reduced to, as in the paper


class DeepLabHead(DenseHead):
    """Dilated convolutions of several rates beside each other on the last map, then a lower stage's map for the edges.

    Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation" (2018). Other than
    there, convolutions are not separable, and group normalisation takes the place of batch normalisation: a task may
    have few rows in a batch, and the pooled branch one number a channel for each.
    """

    def __init__(
        self,
        channels: list[int],
        outputs: int,
        width: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        stage: int = -2,
        low: int = 1,
    ) -> None:
        """Build the layers.

        Args:
            channels: the backbone's channels, one a stage.
            outputs: numbers predicted for a pixel.
            width: channels of the decoder.
            rates: dilations of the convolutions on the last map; the default is for a map of 1/16 of the input's size.
            stage: the last map; negative counts from the output.
            low: the lower stage; of a ResNet, 1 has a map of a quarter of the input's size.

        Raises:
            ValueError: the backbone has no such stages below its last one.
        """
        super().__init__()
        self.stage, self.low = map_stage(channels, stage, "stage"), map_stage(channels, low, "low")
        top = channels[self.stage]
        self.branches = nn.ModuleList([convolution(top, width, 1)])
        self.branches.extend(convolution(top, width, dilation=rate) for rate in rates)
        self.pooled = convolution(top, width, 1)
        self.joined = convolution((len(rates) + 2) * width, width, 1)
        self.edges = convolution(channels[self.low], LOW_WIDTH, 1)
        self.layers = nn.Sequential(convolution(width + LOW_WIDTH, width), convolution(width, width))
        self.output = nn.Conv2d(width, outputs, 1)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs, h, w] at the size of the lower stage's map."""
        top = self.map(features, self.stage)
        pooled = self.pooled(top.mean((2, 3), keepdim=True)).expand(-1, -1, *top.shape[2:])
        context = self.joined(torch.cat([*(branch(top) for branch in self.branches), pooled], dim=1))
        edges = self.edges(self.map(features, self.low))
        fused = torch.cat([resized(context, edges.shape[2:]), edges], dim=1)
        prediction: Tensor = self.output(self.layers(fused))
        return prediction
