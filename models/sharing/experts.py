"""Experts, and gates that mix them."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from models.backbones import MLP, Backbone, BackboneBuilder
from models.backbones.base import Inputs, Shape, last_trained_matrix
from models.backbones.part import check_stage
from models.bounds import check_sizes
from models.errors import ConfigurationError
from models.lazy import LazyFeatures
from models.sharing.rows import size_of
from models.sharing.statistics import statistics_of


class ExpertBuilder:
    """Builds the experts of a scheme, and what lies below them.

    An expert is the stages of a backbone from one on, or a small stack of linear layers on a whole one.

    Args:
        backbone: builds a backbone.
        from_stage: the first stage of an expert; 0 for experts that read the input.
        hidden: widths of the layers of an expert on a whole backbone, in place of stages.

    Raises:
        ConfigurationError: there is no such stage, or both are given.
    """

    def __init__(self, backbone: BackboneBuilder, from_stage: int, hidden: Sequence[int] | None) -> None:
        self.backbone, self.first, self.hidden = backbone, from_stage, hidden
        self.below: Backbone | None = None
        if hidden is not None:
            if from_stage:
                raise ConfigurationError("model.sharing.from_stage", "is for experts without `hidden`", from_stage)
            check_sizes("model.sharing.hidden", hidden)
            self.below = backbone()
        elif from_stage:
            whole = backbone()
            check_stage("model.sharing.from_stage", from_stage, whole)
            self.below = backbone.part(0, from_stage)

    def __call__(self) -> Backbone:
        """A new expert."""
        if self.hidden is not None:
            assert self.below is not None
            expert = MLP((self.below.channels[-1],), self.hidden)
            expert.drawn_anew = True
            return expert
        return self.backbone.part(self.first)

    @property
    def gate_width(self) -> int:
        """Numbers of a row that a gate reads: see `gate_input`."""
        return flat_size(self.backbone.input_shape) if self.below is None else self.below.channels[-1]


class Experts(nn.Module):
    """Several experts that read the same.

    Args:
        build: builds one.
        number: how many.
        key: what the configuration calls their number.

    Raises:
        ConfigurationError: there are none.
    """

    def __init__(self, build: Callable[[], Backbone], number: int, key: str) -> None:
        super().__init__()
        if number < 1:
            raise ConfigurationError(key, "must be at least 1", number)
        self.each = nn.ModuleList(build() for _ in range(number))

    @property
    def channels(self) -> list[int]:
        """Of an expert's features, one a stage."""
        return list(self.each[0].channels)  # type: ignore[arg-type]  # of a Backbone

    def forward(self, x: Inputs) -> list[list[Tensor]]:
        """Every expert's features of a batch, one a stage."""
        with statistics_of(size_of(x), self.training):
            return [expert(x) for expert in self.each]

    def compared_weights(self) -> list[nn.Parameter]:
        """The last trained matrix of every expert."""
        return [weight for expert in self.each for weight in last_trained_matrix(expert.parameters())]


class Gate(nn.Module):
    """Softmax weights of experts, by a linear function of what is below them.

    Experts that are alike stay alike under gates of zeros, so these begin at random.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weights [B, E] of rows [B, width]; those of a row sum to 1."""
        weights: Tensor = self.linear(x).softmax(dim=1)
        return weights


class Mixture(LazyFeatures):
    """Features of several experts, mixed only where they are read, above those of what is below.

    Args:
        below: features, one a stage.
        experts: of each expert, its features, one a stage.
        weights: [B, E].
    """

    def __init__(self, below: Sequence[Tensor], experts: Sequence[Sequence[Tensor]], weights: Tensor) -> None:
        self.below, self.experts, self.weights = below, experts, weights

    def __len__(self) -> int:
        """Number of stages."""
        return len(self.below) + len(self.experts[0])

    def at(self, stage: int) -> Tensor:
        """Σ_i weight_i x_i of a stage's features x_i, [B, ...]."""
        if stage < len(self.below):
            return self.below[stage]
        features = torch.stack([expert[stage - len(self.below)] for expert in self.experts], dim=1)
        return (features * self.weights.view(*self.weights.shape, *[1] * (features.ndim - 2))).sum(dim=1)


def features_of(backbone: Backbone, x: Inputs, training: bool) -> list[Tensor]:
    """A backbone's features of a batch, one a stage."""
    with statistics_of(size_of(x), training):
        features: list[Tensor] = backbone(x)
    return features


def gate_input(x: Inputs) -> Tensor:
    """What a gate reads, [B, width]: inputs flattened, one after the other if there are several."""
    parts = list(x.values()) if isinstance(x, dict) else [x]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def pooled(feature: Tensor) -> Tensor:
    """The mean [B, C] over the places of maps [B, C, H, W] or tokens [B, N, C]; a vector as it is."""
    return feature.mean(dim=(2, 3)) if feature.ndim == 4 else feature.mean(dim=1) if feature.ndim == 3 else feature


def flat_size(shape: Shape) -> int:
    """Numbers in one row's input."""
    return sum(map(prod, shape.values())) if isinstance(shape, dict) else prod(shape)
