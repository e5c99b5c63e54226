"""A stack of linear layers."""

from collections.abc import Sequence
from math import prod

from torch import nn

from models.backbones.base import Backbone
from models.bounds import check_probability, check_sizes
from models.errors import ConfigurationError


class MLP(Backbone):
    """Flattens the sample; every hidden layer is a stage: linear, ReLU, dropout."""

    def __init__(self, input_shape: tuple[int, ...], hidden: Sequence[int] = (256, 128), dropout: float = 0.0) -> None:
        """Build the stages.

        Args:
            input_shape: shape of one sample, of any rank.
            hidden: widths of the hidden layers; the last is the size of the embedding.
            dropout: chance to drop a hidden unit.

        Raises:
            ValueError: `hidden` is empty, or a width or the chance cannot be.
        """
        super().__init__()
        if not hidden:
            raise ConfigurationError("backbone.hidden", "at least one hidden layer is needed", list(hidden))
        check_sizes("backbone.hidden", hidden)
        check_probability("backbone.dropout", dropout)
        widths = [prod(input_shape), *hidden]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Flatten(), nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout))
            for before, after in zip(widths, hidden, strict=False)
        )
        self.channels = list(hidden)

    @property
    def stages(self) -> list[nn.Module]:
        """The hidden layers."""
        return list(self.layers)
