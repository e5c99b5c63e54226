"""Whether a sharing scheme keeps its contract, found in a dry step before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from models.backbones.base import Backbone, Shape
from models.backbones.part import leaves
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.heads import Head
from models.sharing import Sharing

ROWS = 2  # of the blank batch: batch normalisation needs more than one


def check_channels(sharing: Sharing, tasks: list[str]) -> None:
    """Refuse a scheme that does not say how wide each task's features are.

    Raises:
        ConfigurationError: It has no `channels` of some task.
    """
    channels = getattr(sharing, "channels", None)
    if not isinstance(channels, Mapping) or not channels.keys() >= {*tasks}:
        known = list(channels) if isinstance(channels, Mapping) else channels
        raise ConfigurationError(
            "model.sharing", f"{type(sharing).__name__} must have channels of every task {tasks}", known
        )


def check_sharing(sharing: Sharing, heads: ModulesByName[Head], input_shape: Shape) -> None:
    """Refuse a scheme whose parameters are not divided as it says, or that shares by other than what it passes on.

    Generators and buffers are left as they were, no `.grad` is written, and no activation is kept.

    Raises:
        ConfigurationError: Shared and task parameters are no partition; a task reaches another one's parameters, or a
            parameter of the scheme's own is not reached by those that it is for; or the scheme declares that it passes
            on features, and shared parameters reach a task past them.
    """
    _check_partition(sharing, list(heads))
    with _undone(sharing, heads.values()), saved_tensors_hooks(_forgotten, _forgotten):
        reached = _reached(sharing, heads, input_shape)
    _check_reached(sharing, reached)


def _forgotten(x: Tensor) -> Tensor:
    """In place of what a backward pass would need: there is none."""
    return x.new_empty(0)


def _reached(sharing: Sharing, heads: ModulesByName[Head], input_shape: Shape) -> dict[str, set[int]]:
    """Task → the parameters that it reaches in a forward pass of blank rows, by their identity."""
    shared = _identities(sharing.shared_parameters())
    inputs, rows = sharing.blank(input_shape, ROWS), {task: torch.arange(ROWS) for task in heads}
    behind: dict[int, set[int]] = {}  # a shared feature → the parameters that it is computed with
    if sharing.passes_on_features:
        passed_on = sharing.shared_features(inputs, rows)
        copies = [x.detach().requires_grad_(x.requires_grad) for x in passed_on]
        behind = {id(copy): leaves([x]) for copy, x in zip(copies, passed_on, strict=True)}
        _check_reach(sharing, "the shared features", "shared ones", set[int]().union(*behind.values()), shared)
        features, may = sharing.task_features(copies, rows), "its own, past shared_features"
    else:
        features, may = sharing(inputs, rows), "shared ones and its own"
    sharing.take_row_terms()
    _check_features(sharing, features, list(heads))
    reached = {}
    for task, head in heads.items():
        found = leaves([head(features[task])])
        allowed = _identities(sharing.task_parameters(task)) | (set() if sharing.passes_on_features else shared)
        _check_reach(sharing, f"task {task!r}", may, found, allowed)
        reached[task] = found.union(*(behind[each] for each in behind.keys() & found))
    return reached


def _check_features(sharing: Sharing, features: object, tasks: list[str]) -> None:
    """Refuse what is no feature of each task."""
    if not isinstance(features, Mapping) or not features.keys() >= {*tasks}:
        found = list(features) if isinstance(features, Mapping) else type(features).__name__
        raise ConfigurationError(
            "model.sharing", f"{type(sharing).__name__} must give features by task, for {tasks}", found
        )


def _check_reached(sharing: Sharing, reached: Mapping[str, set[int]]) -> None:
    """Refuse parameters that are declared to be those of tasks that do not reach them.

    In a backbone some may be of no use, such as the layers above the lowest that a head reads.
    """
    inside = {id(p) for module in sharing.modules() if isinstance(module, Backbone) for p in module.parameters()}
    counts = Counter(parameter for found in reached.values() for parameter in found)
    shared = [p for p in sharing.shared_parameters() if p.requires_grad]
    if len(reached) > 1 and shared and all(counts[id(p)] < 2 for p in shared):
        _refuse_idle(sharing, shared, "by several tasks, if it is shared")
    outside = [p for p in shared if id(p) not in inside]
    _refuse_idle(sharing, [p for p in outside if counts[id(p)] < min(2, len(reached))], "by several tasks")
    for task, found in reached.items():
        own = [p for p in sharing.task_parameters(task) if p.requires_grad and id(p) not in inside | found]
        _refuse_idle(sharing, own, f"by task {task!r}, whose own it is")


def _refuse_idle(sharing: Sharing, idle: Iterable[nn.Parameter], by: str) -> None:
    names = {id(parameter): name for name, parameter in sharing.named_parameters()}
    if found := [names[id(parameter)] for parameter in idle]:
        raise ConfigurationError(
            "model.sharing", f"a parameter of {type(sharing).__name__} must be reached {by}", _few(found)
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _identities(parameters: Iterable[nn.Parameter]) -> set[int]:
    return {id(parameter) for parameter in parameters}


def _check_partition(sharing: Sharing, tasks: list[str]) -> None:
    """Refuse a parameter that is of no part, or of several; what is not in use is a part."""
    own = (sharing.task_parameters(task) for task in tasks)
    parts = [sharing.shared_parameters(), *own, sharing.unused_parameters()]
    counts = Counter(id(parameter) for part in parts for parameter in part)
    for name, parameter in sharing.named_parameters():
        if counts[id(parameter)] != 1:
            raise ConfigurationError(
                "model.sharing",
                f"every parameter of {type(sharing).__name__} must be either shared or of one task",
                f"{name} {counts[id(parameter)]} times in shared_parameters and task_parameters",
            )


def _check_reach(sharing: Sharing, what: str, may: str, leaves: set[int], allowed: set[int]) -> None:
    """Refuse parameters that something reaches and should not."""
    wrong = [name for name, p in sharing.named_parameters() if id(p) in leaves and id(p) not in allowed]
    if wrong:
        raise ConfigurationError(
            "model.sharing",
            f"{what} of {type(sharing).__name__} must reach no parameters below the heads but {may}",
            _few(wrong),
        )


@contextmanager
def _undone(sharing: Sharing, heads: Iterable[Head]) -> Iterator[None]:
    """Put random generators and buffers back afterwards."""
    buffers = [(buffer, buffer.clone()) for module in (sharing, *heads) for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[]):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
