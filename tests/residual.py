"""A user's own network of residual blocks, without normalisation."""

from torch import Tensor, nn

from models.backbones.base import Backbone


class Block(nn.Module):
    """x + convolution(relu(x)), of which x is carried over by another convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, stride, 1)
        self.short = nn.Identity() if (before, stride) == (after, 1) else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.short(x) + self.convolution(x.relu())


class Residual(Backbone):
    """A stem, stages of blocks of which each but the first halves the size, one that has a single block, pooling."""

    def __init__(self, input_shape: tuple[int, int, int], widths: tuple[int, ...] = (4, 6, 8), single: int = 5) -> None:
        super().__init__()
        pairs = zip(widths[:1] + widths, widths, strict=False)
        self.layers = nn.ModuleList([nn.Conv2d(input_shape[0], widths[0], 3, padding=1)])
        for place, (before, after) in enumerate(pairs):
            self.layers.append(nn.Sequential(Block(before, after, 1 if place == 0 else 2), Block(after, after)))
        self.layers.insert(2, nn.Sequential(Block(widths[0], single, 2), Block(single, widths[0], 1)))
        self.layers.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.channels = [widths[0], widths[0], widths[0], *widths[1:], widths[-1]]

    @property
    def stages(self) -> list[nn.Module]:
        return list(self.layers)
