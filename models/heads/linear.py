"""A linear head."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.heads.base import Head, pooled, stage_channels


class LinearHead(Head):
    """One linear layer on the pooled feature of a stage.

    A stage below the last supervises the lower layers alone: Søgaard & Goldberg, "Deep multi-task learning with low
    level tasks supervised at lower layers" (2016).
    """

    def __init__(self, channels: list[int], outputs: int, stage: int = -1, dropout: float = 0.0) -> None:
        """Build the layer.

        Args:
            channels: the backbone's channels, one a stage.
            outputs: width of the prediction.
            stage: the stage whose feature is read; negative counts from the output.
            dropout: chance to drop a channel of the feature.

        Raises:
            ValueError: the backbone has no such stage.
        """
        super().__init__()
        self.stage = stage
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(stage_channels(channels, stage), outputs))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Prediction [B, outputs] from the features of the backbone's stages."""
        prediction: Tensor = self.layers(pooled(features[self.stage]))
        return prediction
