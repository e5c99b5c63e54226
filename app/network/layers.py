"""The parts of a network that are frozen, thawed and trained at a rate as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from models.errors import ConfigurationError

Layers = Mapping[str, Sequence[nn.Parameter]]
HEAD = "heads."  # how the names of heads' layers begin
BACKBONE = "backbone."  # and those of backbones


def layers_of(
    network: nn.Module, groups: Mapping[str, Sequence[str]], heads: Mapping[str, Iterable[nn.Parameter]]
) -> dict[str, list[nn.Parameter]]:
    """Layer → its parameters: the groups from input to output, then `heads.<task>`; what is never trained is left out.

    Args:
        network: What is below the heads.
        groups: Name of a layer group → names of its parameters in the network.
        heads: Task → the parameters of its head.

    Raises:
        ValueError: Two layers share a parameter.
    """
    named = dict(network.named_parameters())
    layers = {group: [named[name] for name in names] for group, names in groups.items()}
    layers |= {head_layer(task): list(parameters) for task, parameters in heads.items()}
    seen: dict[int, str] = {}
    for layer, parameters in layers.items():
        for parameter in parameters:
            if (other := seen.setdefault(id(parameter), layer)) != layer:
                raise ConfigurationError("model", "a parameter must be of one layer", f"one of {other} and of {layer}")
    trainable = {layer: [p for p in parameters if p.requires_grad] for layer, parameters in layers.items()}
    return {layer: parameters for layer, parameters in trainable.items() if parameters}


def head_layer(task: str) -> str:
    """The layer that a task's head is."""
    return HEAD + task


def is_head(layer: str) -> bool:
    """Whether a layer is a task's head."""
    return layer.startswith(HEAD)


def is_backbone(layer: str) -> bool:
    """Whether a layer is a group of a backbone; what is none of it is drawn anew in every training."""
    return layer.startswith(BACKBONE)
