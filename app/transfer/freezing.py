"""What is frozen does not change: no gradient, no running statistic, no dropout."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from app.network.layers import Layers
from app.transfer.phases import BatchNormMode


def set_trainable(layers: Layers, trained: Collection[str]) -> None:
    """Give gradients to the trained layers' parameters, and to no others'."""
    for layer, parameters in layers.items():
        for parameter in parameters:
            parameter.requires_grad_(layer in trained)
            if layer not in trained:
                parameter.grad = None  # an optimizer would go on with it


def set_modes(network: nn.Module, layers: Layers, trained: Collection[str], batch_norm: BatchNormMode) -> None:
    """Put what belongs to the trained layers into training mode, and the rest into evaluation mode.

    A module belongs to the deepest layer that it has parameters of; one without parameters, such as dropout, to that
    of the module before it, or after it if it is the first.

    Args:
        network: In training mode.
        layers: Layer → its parameters, from input to output.
        trained: The layers that are trained.
        batch_norm: See `Phase`.
    """
    order = {id(p): (i, name in trained) for i, (name, ps) in enumerate(layers.items()) for p in ps}
    _set_modes(network, order, True)
    for module in network.modules():
        if isinstance(module, _NormBase) and module.track_running_stats and batch_norm != "train":
            module.training = batch_norm == "stats"


def _set_modes(module: nn.Module, order: Mapping[int, tuple[int, bool]], neighbour: bool) -> None:
    """Set the mode of a module, the neighbour's where it has no parameters, and of all within it."""
    own = _mode(module, order)
    module.training = neighbour if own is None else own
    children = list(module.children())
    modes = [_mode(child, order) for child in children]
    before = next((mode for mode in modes if mode is not None), module.training)
    for child, mode in zip(children, modes, strict=True):
        before = before if mode is None else mode
        _set_modes(child, order, before)


def _mode(module: nn.Module, order: Mapping[int, tuple[int, bool]]) -> bool | None:
    """Whether the deepest layer that a module has parameters of is trained, or None if it has none."""
    layers = [order[id(p)] for p in module.parameters() if id(p) in order]
    return max(layers)[1] if layers else None
