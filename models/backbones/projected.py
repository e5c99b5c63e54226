"""One more layer on a network."""

from collections.abc import Callable

from torch import nn

from models.backbones.base import Backbone, Inputs, Shape


class Projected(Backbone):
    """A backbone whose embedding passes one more stage: linear, batch normalisation, ReLU, dropout.

    The encoder of LibMTL's Office-31 and Office-Home, where it stands on a ResNet-18.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        backbone: Callable[[tuple[int, ...]], Backbone],
        features: int = 512,
        dropout: float = 0.5,
    ) -> None:
        """Build the backbone and the stage.

        Args:
            input_shape: shape of one sample.
            backbone: the network below, e.g. a TimmBackbone.
            features: width of the linear layer, the size of the embedding.
            dropout: chance to drop a unit of the embedding.
        """
        super().__init__()
        self.backbone = backbone(input_shape)
        linear = nn.Linear(self.backbone.channels[-1], features)
        self.projection = nn.Sequential(linear, nn.BatchNorm1d(features), nn.ReLU(), nn.Dropout(dropout))
        self.channels = [*self.backbone.channels, features]

    @property
    def stages(self) -> list[nn.Module]:
        """Those of the backbone, and the new one."""
        return [*self.backbone.stages, self.projection]

    def blank(self, input_shape: Shape, rows: int) -> Inputs:
        """What the backbone reads."""
        return self.backbone.blank(input_shape, rows)

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """The groups of the backbone, and `projection`."""
        groups = {
            name: [f"backbone.{parameter}" for parameter in parameters]
            for name, parameters in self.backbone.layer_groups(coarse).items()
        }
        return groups | {"projection": [f"projection.{name}" for name, _ in self.projection.named_parameters()]}
