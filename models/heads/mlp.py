"""A head with hidden layers."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.heads.base import Head, pooled, stage_channels


class MLPHead(Head):
    """Hidden layers (linear, ReLU, dropout), then a linear layer, on the pooled feature of a stage."""

    def __init__(
        self,
        channels: list[int],
        outputs: int,
        hidden: Sequence[int] = (128,),
        stage: int = -1,
        dropout: float = 0.0,
    ) -> None:
        """Build the layers.

        Args:
            channels: the backbone's channels, one a stage.
            outputs: width of the prediction.
            hidden: widths of the hidden layers.
            stage: the stage whose feature is read; negative counts from the output.
            dropout: chance to drop a hidden unit.

        Raises:
            ValueError: the backbone has no such stage.
        """
        super().__init__()
        self.stage = stage
        width = stage_channels(channels, stage)
        self.layers = nn.Sequential()
        for after in hidden:
            self.layers.extend([nn.Linear(width, after), nn.ReLU(), nn.Dropout(dropout)])
            width = after
        self.layers.append(nn.Linear(width, outputs))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs] from the features of the backbone's stages."""
        prediction: Tensor = self.layers(pooled(features[self.stage]))
        return prediction
