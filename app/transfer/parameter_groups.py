"""The optimizer's parameter groups, and what their rates are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from torch import nn
from torch.optim import Optimizer

from app.network.layers import is_backbone
from models.errors import ConfigurationError


@dataclass
class LayerConfig:
    """How the layers of a backbone differ in their training.

    Args:
        decay: Factor of a layer group's learning rate over that of the group above it, which for the top group are the
            heads: 0.65 to 0.9 for vision transformers (Bao et al., "BEiT", 2021), 0.385 for ULMFiT's division by 2.6,
            with `coarse` groups.
        coarse: A layer group for each stage of the network, instead of for each block, as timm divides it.
    """

    decay: float = 1.0
    coarse: bool = False


def parameter_groups(
    layers: Mapping[str, Sequence[nn.Parameter]], mixing: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Two groups a layer: its matrices and filters, and its vectors and scalars, which no weight decay pulls at.

    Args:
        layers: Layer → its parameters.
        mixing: Layers of weights that mix activations, at none of which it pulls: zeros are no simpler mixture.
    """
    groups: list[dict[str, Any]] = []
    for layer, parameters in layers.items():
        if layer in mixing:
            groups.append({"params": list(parameters), "name": layer, "layer": layer, "weight_decay": 0.0})
            continue
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        if matrices:
            groups.append({"params": matrices, "name": layer, "layer": layer})
        if vectors:
            groups.append({"params": vectors, "name": f"{layer} 1-d", "layer": layer, "weight_decay": 0.0})
    return groups


def layer_factors(layers: Sequence[str], decay: float, own: Mapping[str, float]) -> dict[str, float]:
    """Layer → factor of its learning rate, whatever the phase.

    Args:
        layers: The backbone's from input to output, and others.
        decay: See `LayerConfig`.
        own: Layer → factor, of those others; 1 where there is none.

    Raises:
        ValueError: The decay is not positive.
    """
    if not 0 < decay < inf:
        raise ConfigurationError("model.layers.decay", "must be greater than 0", decay)
    above = {layer: sum(is_backbone(other) for other in layers[i:]) for i, layer in enumerate(layers)}
    return {layer: decay ** above[layer] if is_backbone(layer) else own.get(layer, 1.0) for layer in layers}


@contextmanager
def scaled_rates(optimizer: Optimizer, factors: Mapping[str, float]) -> Iterator[None]:
    """Multiply the rate of each group by its layer's factor; a scheduler sees it as it was."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factors.get(group["layer"], 1.0)
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
