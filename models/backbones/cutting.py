"""Cuts a timm network into stages, whatever its family."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

# A timm network answers calls (forward_features, forward_head, …) that nn.Module does not declare.
Network = Any
Cut = Callable[[Network], list[nn.Module]]


class Call(nn.Module):
    """A step that is a method of the network or a function, as a module without parameters of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        """Wrap the function."""
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(x)


@torch.no_grad()
def find_cut(net: Network, sample: Tensor, pooled: Tensor) -> tuple[Cut, list[Tensor]]:
    """The finest way to cut the network that provably changes nothing.

    A cut is a function, so that stages always refer to the network's present modules: conversions that replace
    modules (synchronised BatchNorm, adapters) need no new cut.

    Args:
        net: a timm network in evaluation mode.
        sample: one input [1, C, H, W].
        pooled: what the network's own forward_features and forward_head make of the sample, [1, C].

    Returns:
        Function from the network to its stages, and the features that these make of the sample.
    """
    finders: list[Callable[[], Cut]] = [
        lambda: cut_at_blocks,
        lambda: partial(cut_at_children, plan=find_plan(net, sample)),
    ]
    for find in finders:
        try:
            cut = find()
            features = _features(cut(net), sample)
        except Exception:  # a network of another shape fails in its own way, and is cut in another way
            continue
        if (features[-1] - pooled).norm() <= 1e-5 * pooled.norm():
            return cut, features
    return cut_in_two, _features(cut_in_two(net), sample)


def find_plan(net: Network, sample: Tensor) -> list[list[str]]:
    """Names of the children that make each stage, in the order in which the network calls them.

    A stage ends where timm's `feature_info` marks a feature; what follows the last mark opens the last stage.
    """
    called: list[str] = []
    marks = [info.get("module", "") for info in net.feature_info]
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
        for name in _children(net, marks)
    ]
    net.forward_features(sample)
    for hook in hooks:
        hook.remove()
    stages: list[list[str]] = [[]]
    for name in called:
        stages[-1].append(name)
        if any(f"{mark}.".startswith(f"{name}.") for mark in marks):
            stages.append([])
    return stages


def _children(net: Network, marks: list[str]) -> Iterator[str]:
    """The network's children, those containers opened in which features are marked."""
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList) and any(mark.startswith(f"{name}.") for mark in marks):
            yield from (f"{name}.{inner}" for inner, _ in child.named_children())
        else:
            yield name


def cut_at_children(net: Network, plan: list[list[str]]) -> list[nn.Module]:
    """The children named in the plan; the last ones with the network's pooling."""
    parts = [[net.get_submodule(name) for name in names] for names in plan]
    parts[-1].append(_pooling(net))
    return _channels_first(net, parts)


def cut_at_blocks(net: Network) -> list[nn.Module]:
    """A vision transformer: embedding, up to four equal groups of blocks, final norm with pooling."""
    depth = len(net.blocks)
    groups = min(4, depth)
    bounds = [depth * i // groups for i in range(groups + 1)]
    stem = nn.Sequential(net.patch_embed, Call(net._pos_embed), net.patch_drop, net.norm_pre)
    blocks = [nn.Sequential(*net.blocks[i:j]) for i, j in pairwise(bounds)]
    return [stem, *blocks, nn.Sequential(net.norm, _pooling(net))]


def cut_in_two(net: Network) -> list[nn.Module]:
    """Features, then pooling: what every timm network offers."""
    return _channels_first(net, [[Call(net.forward_features)], [_pooling(net)]])


def _pooling(net: Network) -> nn.Module:
    """What lies between the last feature and the classifier."""
    return Call(partial(net.forward_head, pre_logits=True))


def _channels_first(net: Network, parts: list[list[nn.Module]]) -> list[nn.Module]:
    """Turn the maps of channels-last networks (Swin) at the end of each stage, and back at the start of the next."""
    if getattr(net, "output_fmt", "NCHW") == "NHWC":
        for before, after in pairwise(parts):
            before.append(Call(partial(torch.permute, dims=(0, 3, 1, 2))))
            after.insert(0, Call(partial(torch.permute, dims=(0, 2, 3, 1))))
    return [nn.Sequential(*part) for part in parts]


def _features(stages: list[nn.Module], x: Tensor) -> list[Tensor]:
    return [x := stage(x) for stage in stages]
