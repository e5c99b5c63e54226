"""Where a sharing scheme has copies of a backbone."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from models.backbones.base import Backbone
from models.backbones.part import BackbonePart
from models.by_name import ModulesByName


@dataclass(frozen=True)
class Copy:
    """The tensors of a backbone, or of some of its stages, in a scheme.

    Args:
        path: its place there.
        task: whose it is; None for that of several tasks.
        tensors: name in the backbone → its values here.
        held: name in the backbone → the names that the scheme has for what holds them.
    """

    path: str
    task: str | None
    tensors: dict[str, Tensor]
    held: dict[str, list[str]]


def copy_at(path: str, task: str | None, backbone: Backbone) -> Copy:
    """The copy that a backbone at a place in a scheme is."""
    inner = "whole." if isinstance(backbone, BackbonePart) else ""
    tensors = {name.removeprefix(inner): x for name, x in backbone.state_dict().items()}
    return Copy(path.rstrip("."), task, tensors, {name: [f"{path}{inner}{name}"] for name in tensors})


def backbones(module: nn.Module, path: str = "", task: str | None = None) -> Iterator[tuple[str, str | None, Backbone]]:
    """The backbones in a module that are in no other: how their parameters' names begin, and the task they are of."""
    for name, child in module.named_children():
        own = name if isinstance(module, ModulesByName) else task
        if isinstance(child, Backbone):
            yield f"{path}{name}.", own, child
        else:
            yield from backbones(child, f"{path}{name}.", own)
