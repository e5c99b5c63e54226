"""Penalties of parameters alone, beside the losses of the tasks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from app.balancing.engine.gradients import gradients_of
from models.sharing import Sharing

Term = tuple[nn.Parameter, Tensor, float]  # a parameter, and the direction and factor of what it adds to its gradient


class Penalty(Protocol):
    """A term of the objective that depends on parameters alone."""

    def terms(self) -> Iterator[Term]:
        """Its gradient: for each parameter that it pulls at, factor × direction, of the parameter's shape."""

    def value(self) -> float:
        """What it adds to the objective."""


class DifferentiatedPenalty:
    """A penalty whose gradient is found from its value.

    Args:
        term: Gives the value, with its graph.
        parameters: Those that are trained of what it depends on.
    """

    def __init__(self, term: Callable[[], Tensor], parameters: Callable[[], Sequence[nn.Parameter]]) -> None:
        self._term, self._parameters = term, parameters

    @torch.enable_grad()
    def terms(self) -> Iterator[Term]:
        """Its gradient, for the parameters that are trained."""
        if not (term := self._term()).requires_grad:  # all that it depends on is frozen
            return iter(())
        parameters = self._parameters()
        pairs = zip(parameters, gradients_of(term, parameters), strict=True)
        return iter([(parameter, gradient, 1.0) for parameter, gradient in pairs if gradient is not None])

    @torch.no_grad()
    def value(self) -> float:
        """What it adds to the objective."""
        return self._term().item()


class SharingPenalty(DifferentiatedPenalty):
    """The penalty of a sharing scheme.

    Args:
        sharing: The scheme, which has one.
    """

    def __init__(self, sharing: Sharing) -> None:
        super().__init__(sharing.penalty, lambda: [p for p in sharing.parameters() if p.requires_grad])
        self.sharing, self._told = sharing, False

    def check_rate(self, optimizer: Optimizer) -> None:
        """Tell once, if steps of SGD along the penalty go too far: what it holds together drifts apart then."""
        largest, rate = self.sharing.largest_rate, max(group["lr"] for group in optimizer.param_groups)
        if largest is not None and isinstance(optimizer, SGD) and rate > largest and not self._told:
            self._told = True
            warnings.warn(
                f"model.sharing.strength: the learning rate must be at most {largest:.4g} under this penalty, else the "
                f"networks drift apart; found {rate:.4g}",
                stacklevel=2,
            )


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
        for penalty in self._by_name.values():
            if isinstance(penalty, SharingPenalty):
                penalty.check_rate(optimizer)
        for parameter, direction, factor in self.terms():
            if parameter.grad is not None:
                parameter.grad.add_(direction, alpha=scale * factor)

    def values(self) -> dict[str, float]:
        """What each of them adds to the objective, by its curve."""
        return {f"penalty/{name}": penalty.value() for name, penalty in self._by_name.items()}

    def terms(self) -> Iterator[Term]:
        """The terms of all of them."""
        for penalty in self._by_name.values():
            yield from penalty.terms()


def loss_scale(optimizer: Optimizer, scaler: Any | None) -> float:
    """What gradients are multiplied by: under fp16, a fused optimizer divides them by the scale only in its step."""
    return float(scaler.get_scale()) if scaler and getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0


def penalties_of(sharing: Sharing) -> Penalties:
    """That of a sharing scheme, if it has one, for callbacks to add others."""
    penalties = Penalties()
    if sharing.has_penalty:
        penalties.add("sharing", SharingPenalty(sharing))
    return penalties
