"""Whether a sharing scheme keeps its contract, found in a dry step before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.backbones.base import Shape
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.heads import Head
from models.sharing import Sharing

ROWS = 2  # of the blank batch: batch normalisation needs more than one


def check_sharing(sharing: Sharing, heads: ModulesByName[Head], input_shape: Shape) -> None:
    """Refuse a scheme whose parameters are not divided as it says, or that shares by other than what it passes on.

    Generators, buffers and modes are left as they were, and no `.grad` is written.

    Raises:
        ValueError: Shared and task parameters are no partition; a task reaches another one's parameters; or the scheme
            declares that it passes on features, and shared parameters reach a task past them.
    """
    _check_partition(sharing, list(heads))
    shared = _identities(sharing.shared_parameters())
    inputs, rows = sharing.blank(input_shape, ROWS), {task: torch.arange(ROWS) for task in heads}
    with _undone(sharing, heads.values()):
        if sharing.passes_on_features:
            passed_on = sharing.shared_features(inputs, rows)
            _check_reach(sharing, "the shared features", "shared ones", passed_on, shared)
            copies = [x.detach().requires_grad_(x.requires_grad) for x in passed_on]
            features, allowed, may = sharing.task_features(copies, rows), set[int](), "its own, past shared_features"
        else:
            features, allowed, may = sharing(inputs, rows), shared, "shared ones and its own"
        for task, head in heads.items():
            own = _identities(sharing.task_parameters(task))
            _check_reach(sharing, f"task {task!r}", may, [head(features[task])], allowed | own)


def _identities(parameters: Iterable[nn.Parameter]) -> set[int]:
    return {id(parameter) for parameter in parameters}


def _check_partition(sharing: Sharing, tasks: list[str]) -> None:
    """Refuse a parameter that is of no part, or of several."""
    parts = [sharing.shared_parameters(), *(sharing.task_parameters(task) for task in tasks)]
    counts = Counter(id(parameter) for part in parts for parameter in part)
    for name, parameter in sharing.named_parameters():
        if counts[id(parameter)] != 1:
            raise ConfigurationError(
                "model.sharing",
                f"every parameter of {type(sharing).__name__} must be either shared or of one task",
                f"{name} {counts[id(parameter)]} times in shared_parameters and task_parameters",
            )


def _check_reach(sharing: Sharing, what: str, may: str, outputs: Iterable[Tensor], allowed: set[int]) -> None:
    """Refuse parameters that some outputs reach and should not."""
    leaves = _leaves(outputs)
    wrong = [name for name, p in sharing.named_parameters() if id(p) in leaves and id(p) not in allowed]
    if wrong:
        raise ConfigurationError(
            "model.sharing",
            f"{what} of {type(sharing).__name__} must reach no parameters below the heads but {may}",
            ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else ""),
        )


def _leaves(outputs: Iterable[Tensor]) -> set[int]:
    """The parameters in the graph of some outputs, by their identity."""
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


@contextmanager
def _undone(sharing: Sharing, heads: Iterable[Head]) -> Iterator[None]:
    """Put random generators and buffers back afterwards."""
    buffers = [(buffer, buffer.clone()) for module in (sharing, *heads) for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[]):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
