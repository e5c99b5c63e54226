"""The calls of autograd, and what is done at once with what they give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

Gradients = tuple[Tensor | None, ...]


class FeatureCut:
    """Takes the graph apart at a module's outputs, the shared features."""

    def __init__(self, module: nn.Module) -> None:
        self.outputs: list[Tensor] = []  # where the graph of the trunk ends
        self.leaves: list[Tensor] = []  # where the graphs of the heads begin
        module.register_forward_hook(self._cut)

    def _cut(self, module: nn.Module, inputs: object, outputs: Sequence[Tensor]) -> list[Tensor] | None:
        if not (module.training and any(x.requires_grad for x in outputs)):
            return None
        self.outputs = [x for x in outputs if x.requires_grad]
        leaves = [x.detach().requires_grad_(x.requires_grad) for x in outputs]
        self.leaves = [x for x in leaves if x.requires_grad]
        return leaves

    def backward(self, gradients: Sequence[Tensor | None]) -> None:
        """Add to the trunk's `.grad` what gradients of the features, one for each of `leaves`, give; let go of both."""
        read = [(x, gradient) for x, gradient in zip(self.outputs, gradients, strict=True) if gradient is not None]
        self.outputs, self.leaves = [], []
        if read:
            torch.autograd.backward([x for x, _ in read], [gradient for _, gradient in read])


def each_task(
    losses: Mapping[int, Tensor], inputs: Sequence[Tensor | GradientEdge], own: Sequence[Sequence[nn.Parameter]]
) -> Iterable[tuple[int, Gradients]]:
    """Task by task, the gradients of its loss with respect to `inputs`; its own parameters' are added to their `.grad`.

    Each pass takes both. The last one frees the graph.
    """
    for task, loss in losses.items():
        keep = task != next(reversed(losses))
        found = gradients_of(loss, [*inputs, *own[task]], keep)
        accumulate(own[task], found[len(inputs) :])
        yield task, found[: len(inputs)]


def all_tasks(
    losses: Mapping[int, Tensor], inputs: Sequence[Tensor | GradientEdge], own: Sequence[nn.Parameter]
) -> Gradients:
    """The gradients of the sum of the losses with respect to `inputs`; all tasks' own are added to their `.grad`."""
    total = torch.stack(list(losses.values())).sum()
    found = gradients_of(total, [*inputs, *own])
    accumulate(own, found[len(inputs) :])
    return found[: len(inputs)]


def weighted_sum(losses: Mapping[int, Tensor], weights: Mapping[int, Tensor]) -> Tensor:
    """Σ_t weight_t L_t over the tasks of `losses`, of which there is one at least."""
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum()


def backward(loss: Tensor) -> None:
    """Add the gradient of a loss to the `.grad` of every parameter that it reaches."""
    torch.autograd.backward(loss)


def scale_of(loss: Tensor, total: Tensor) -> Tensor:
    """∂loss/∂total, a number: the factor that a trainer's precision and accumulation have given a step's total."""
    (scale,) = torch.autograd.grad(loss, total)
    return scale


def gradients_of(loss: Tensor, inputs: Sequence[Tensor | GradientEdge], keep: bool = False) -> Gradients:
    """The gradients of a loss with respect to `inputs`, whose graph is freed unless it is to be kept."""
    several: Any = list(inputs)  # torch says that they are of one kind, but takes both
    return torch.autograd.grad(loss, several, retain_graph=keep, allow_unused=True) if inputs else ()


def accumulate(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Add gradients to the parameters' `.grad`."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            # A copy, as two parameters' gradients may be one tensor, or one number expanded.
            parameter.grad = (
                gradient.clone(memory_format=torch.contiguous_format)
                if parameter.grad is None
                else parameter.grad + gradient
            )


def derivatives(scalar: Tensor, losses: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, Gradients]:
    """∂scalar/∂losses [T'], and the scalar's gradients with respect to a scalarizer's parameters."""
    weights, *rest = torch.autograd.grad(scalar, [losses, *parameters], allow_unused=True)
    return weights, tuple(rest)
