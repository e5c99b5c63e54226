"""Some of a backbone's stages, and a builder of whole ones and of parts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log2

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone, Inputs, Shape
from models.errors import ConfigurationError


@dataclass(frozen=True)
class BackboneBuilder:
    """Builds backbones of one kind, whole or in part, initialised anew at each call.

    Args:
        make: from the shape of one row's input to a backbone.
        input_shape: that of the data.
    """

    make: Callable[[Shape], Backbone]
    input_shape: Shape

    def __call__(self, input_shape: Shape | None = None) -> Backbone:
        """A whole backbone, for rows of the data or of another shape."""
        return self.make(self.input_shape if input_shape is None else input_shape)

    def part(self, first: int, last: int | None = None) -> Backbone:
        """The stages [first:last] of a new backbone."""
        whole = self()
        return whole if (first, last) == (0, None) else BackbonePart(whole, self.input_shape, first, last)


class BackbonePart(Backbone):
    """The stages [first:last] of a backbone; it has no parameter and no statistic of the others.

    Args:
        whole: the backbone, which is the part from now on.
        input_shape: shape of one of its rows.
        first: the part's first stage.
        last: the first stage that is not the part's; None for all that follow.
    """

    def __init__(self, whole: Backbone, input_shape: Shape, first: int, last: int | None = None) -> None:
        super().__init__()
        self.whole, self.first, self.last = whole, first, last
        used = stage_parameters(whole, input_shape)
        kept = {id(parameter) for stage in used[first:last] for parameter in stage}
        stages = [{*stage.modules()} for stage in whole.stages]
        inside = {module for stage in stages[first:last] for module in stage}
        for module in whole.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if id(parameter) not in kept:
                    module.register_parameter(name, None)
            if any(module in stage for stage in stages) and module not in inside:
                for name, _ in list(module.named_buffers(recurse=False)):
                    module.register_buffer(name, None)
        self.channels = whole.channels[first:last]
        self.input_dtype = whole.input_dtype if first == 0 else None

    @property
    def stages(self) -> list[nn.Module]:
        """The part's."""
        return self.whole.stages[self.first : self.last]

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """The whole one's groups, as far as the part has of them."""
        mine = {name for name, _ in self.whole.named_parameters()}
        groups = {
            group: [f"whole.{name}" for name in names if name in mine]
            for group, names in self.whole.layer_groups(coarse).items()
        }
        return {group: names for group, names in groups.items() if names}

    def blank(self, input_shape: Shape, rows: int) -> Inputs:
        """What the whole one reads."""
        return self.whole.blank(input_shape, rows)


def stage_parameters(backbone: Backbone, input_shape: Shape) -> list[list[nn.Parameter]]:
    """The parameters that each stage is computed with, found by a forward pass of blank rows.

    Buffers and generators are left as they were. What no stage is computed with is the last one's.
    """
    training = backbone.training
    backbone.eval()
    x, found = backbone.blank(input_shape, 1), []
    with torch.random.fork_rng(devices=[]):
        for stage in backbone.stages:
            x = stage(x)
            assert isinstance(x, Tensor)
            found.append(leaves([x]))
            x = x.detach()
    backbone.train(training)
    seen = set[int]().union(*found)
    found[-1] |= {id(parameter) for parameter in backbone.parameters()} - seen
    return [[p for p in backbone.parameters() if id(p) in each] for each in found]


def stages_with_parameters(backbone: Backbone, input_shape: Shape) -> list[int]:
    """The numbers of the stages that have parameters."""
    return [number for number, own in enumerate(stage_parameters(backbone, input_shape)) if own]


@torch.no_grad()
def halvings(backbone: Backbone, input_shape: Shape) -> list[int]:
    """How often the height of each stage's map is halved above it, to the nearest; 0 for what is no map."""
    training, x = backbone.training, backbone.blank(input_shape, 1)
    backbone.eval()
    heights: list[int] = []
    for stage in backbone.stages:
        x = stage(x)
        assert isinstance(x, Tensor)
        heights.append(x.shape[2] if x.ndim == 4 else 0)
    backbone.train(training)
    last = next((height for height in reversed(heights) if height), 1)
    return [round(log2(height / last)) if height else 0 for height in heights]


def check_stage(key: str, stage: int, backbone: Backbone) -> None:
    """Refuse a number of a stage that is none, or the first.

    Raises:
        ConfigurationError: It is not among the stages that have one below them.
    """
    last = len(backbone.channels) - 1
    if not 1 <= stage <= last:
        raise ConfigurationError(key, f"must be a stage from 1 to {last} of {type(backbone).__name__}", stage)


def leaves(outputs: Iterable[Tensor]) -> set[int]:
    """The parameters in the graph of some outputs, by their identity; of an output without a graph, itself."""
    outputs = list(outputs)
    waiting = [x.grad_fn for x in outputs if x.grad_fn is not None]
    seen, found = set(waiting), {id(x) for x in outputs if x.grad_fn is None}
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                waiting.append(child)
    return found
