"""A network for each modality, joined at the end."""

from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone, Inputs, Shape
from models.by_name import ModulesByName
from models.errors import ConfigurationError


class LateFusion(Backbone):
    """A backbone for each modality; their embeddings are concatenated into one, [B, C], the only stage.

    For inputs that are dicts, such as an image with a row of numbers.
    """

    def __init__(
        self,
        input_shape: dict[str, tuple[int, ...]],
        backbones: dict[str, Callable[[tuple[int, ...]], Backbone]],
    ) -> None:
        """Build the backbones.

        Args:
            input_shape: modality → shape of one sample.
            backbones: modality → the network that reads it, e.g. a TimmBackbone for images, an MLP for numbers.

        Raises:
            ValueError: there is not one backbone for each modality of the data, or one does not fit.
        """
        super().__init__()
        if not isinstance(input_shape, dict):
            raise ConfigurationError("input_shape", "LateFusion reads dicts of modalities", tuple(input_shape))
        if set(backbones) != set(input_shape):
            raise ConfigurationError(
                "backbone.backbones",
                f"must be one for each of the data's modalities {sorted(input_shape)}",
                sorted(backbones),
            )
        self.joined = Joined({modality: build(input_shape[modality]) for modality, build in backbones.items()})
        self.channels = [sum(backbone.channels[-1] for backbone in self.joined.backbones.values())]

    @property
    def stages(self) -> list[nn.Module]:
        """All backbones as one module."""
        return [self.joined]

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """The groups of all backbones, `<modality>.<group>`; those as far from the output are one, joined by a plus."""
        depths: dict[int, dict[str, list[str]]] = defaultdict(dict)
        for modality, backbone in self.joined.backbones.items():
            for above, (name, parameters) in enumerate(reversed(backbone.layer_groups(coarse).items())):
                prefixed = [f"joined.backbones.{modality}.{parameter}" for parameter in parameters]
                depths[above][f"{modality}.{name}"] = prefixed
        return {"+".join(own): list(chain(*own.values())) for _, own in sorted(depths.items(), reverse=True)}

    def compared_weights(self) -> list[nn.Parameter]:
        """Those of every modality."""
        return [weight for backbone in self.joined.backbones.values() for weight in backbone.compared_weights()]

    def blank(self, input_shape: Shape, rows: int) -> Inputs:
        """Zeros of every modality."""
        assert isinstance(input_shape, dict)
        by_modality = self.joined.backbones.items()
        return {modality: cast(Tensor, b.blank(input_shape[modality], rows)) for modality, b in by_modality}


class Joined(nn.Module):
    """Concatenates the embeddings of several backbones."""

    def __init__(self, backbones: dict[str, Backbone]) -> None:
        """Keep the backbones, modality → backbone."""
        super().__init__()
        self.backbones = ModulesByName[Backbone](backbones)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Embedding [B, C] of the inputs, modality → [B, ...]."""
        return torch.cat([backbone(inputs[modality])[-1] for modality, backbone in self.backbones.items()], dim=1)
