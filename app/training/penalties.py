"""Penalties of parameters alone, beside the losses of the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Term = tuple[nn.Parameter, Tensor, float]  # a parameter, and the direction and factor of what it adds to its gradient


class Penalty(Protocol):
    """A term of the objective that depends on parameters alone."""

    def terms(self) -> Iterator[Term]:
        """Its gradient: for each parameter that it pulls at, factor × direction, of the parameter's shape."""


class Penalties:
    """Adds the gradients of all penalties, once an optimizer step, after balancing and before clipping.

    By then gradients are summed over the ranks and micro-batches, so nothing is to be divided. A parameter without a
    gradient in the step stays as it is: what is frozen, and an absent task's own.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Penalty] = {}

    def add(self, name: str, penalty: Penalty) -> None:
        """Have a penalty, or another one of the same name in its place."""
        self._by_name[name] = penalty

    @torch.no_grad()
    def add_gradients(self, optimizer: Optimizer, scaler: Any | None) -> None:
        """Add them to the gradients of a step.

        Args:
            optimizer: It steps next.
            scaler: Of fp16, if there is one.
        """
        scale = loss_scale(optimizer, scaler) if self._by_name else 1.0
        for parameter, direction, factor in self.terms():
            if parameter.grad is not None:
                parameter.grad.add_(direction, alpha=scale * factor)

    def terms(self) -> Iterator[Term]:
        """The terms of all of them."""
        for penalty in self._by_name.values():
            yield from penalty.terms()


def loss_scale(optimizer: Optimizer, scaler: Any | None) -> float:
    """What gradients are multiplied by: under fp16, a fused optimizer divides them by the scale only in its step."""
    return float(scaler.get_scale()) if scaler and getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0
