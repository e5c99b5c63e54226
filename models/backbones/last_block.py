"""The last block of every stage that consists of blocks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone, Shape


@dataclass(frozen=True)
class LastBlock:
    """A block, such as a residual network's or a transformer's, in whose output a stage ends.

    Attributes:
        module: the block.
        shape: of a row of its input, and of its output.
    """

    module: nn.Module
    shape: torch.Size


@dataclass(frozen=True)
class Call:
    """A call of a module; the version tells whether its output was changed in place since."""

    entered: object
    left: object
    version: int | None

    @classmethod
    def of(cls, entered: object, left: object) -> "Call":
        """One that has just ended."""
        return cls(entered, left, left._version if isinstance(left, Tensor) else None)


@torch.no_grad()
def last_blocks(backbone: Backbone, input_shape: Shape) -> dict[int, LastBlock]:
    """Stage → its last block, of those that have blocks, found by a forward pass of a blank row.

    A stage has blocks if what it gives, maps or tokens, is given by a module with parts and weights that reads as much.
    What ends in the output of such a part, as a chain of blocks does, is no block itself.
    """
    training, x = backbone.training, backbone.blank(input_shape, 1)
    backbone.eval()
    found: dict[int, LastBlock] = {}
    with _recorded(backbone) as calls:
        for number, stage in enumerate(backbone.stages):
            y = stage(x)
            module, call = _innermost(stage, Call.of(x, y), calls)
            read = call.entered
            if not isinstance(module, nn.Sequential) and isinstance(read, Tensor) and _is_one(module, read, y):
                found[number] = LastBlock(module, y.shape[1:])
            x = y
    backbone.train(training)
    return found


def _innermost(module: nn.Module, call: Call, calls: Mapping[nn.Module, Call]) -> tuple[nn.Module, Call]:
    """The innermost part with parts and weights that gives what a module does."""
    for part in module.children():
        inner = calls.get(part)
        if inner and inner.left is call.left and inner.version == call.version and _has_parts_and_weights(part):
            return _innermost(part, inner, calls)
    return module, call


def _is_one(module: nn.Module, read: Tensor, given: Tensor) -> bool:
    return given.ndim > 2 and read.shape == given.shape and _has_parts_and_weights(module)


def _has_parts_and_weights(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and any(parameter.ndim > 1 for parameter in module.parameters())


@contextmanager
def _recorded(backbone: Backbone) -> Iterator[Mapping[nn.Module, Call]]:
    """Module → its last call, within it."""
    calls: dict[nn.Module, Call] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[module] = Call.of(inputs[0] if inputs else None, output)

    hooks = [module.register_forward_hook(record) for module in backbone.modules()]
    yield calls
    for hook in hooks:
        hook.remove()
