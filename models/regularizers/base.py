"""What every regularizer answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError


class Regularizer(nn.Module, ABC):
    """A term of the objective on one weight of every task, [outputs, ...] each, which is handed in at every call.

    What it has learned of them are buffers. Subclasses are `SmoothRegularizer` and `ProximalRegularizer`.

    Attributes:
        equal_shapes: whether the tasks' weights must have one shape; else their inputs alone must be as many.
        strength: λ.
        tasks: whose weights; None for those of all tasks, and once `start` was called their names.
        layer: a layer group that every task has of its own; None for the last matrix of the tasks' heads.
    """

    equal_shapes: bool = True

    def __init__(self, strength: float, tasks: Sequence[str] | None = None, layer: str | None = None) -> None:
        """Keep what all regularizers are told.

        Args:
            strength: λ.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: λ is negative or not finite.
        """
        super().__init__()
        self.check_strength("strength", strength)
        self.strength, self.tasks, self.layer = strength, None if tasks is None else list(tasks), layer

    def check_strength(self, option: str, value: float) -> None:
        """Refuse a factor that is none.

        Raises:
            ValueError: it is negative or not finite.
        """
        if not 0 <= value < inf:
            raise ConfigurationError(self.key(option), "must be finite and not negative", value)

    def key(self, option: str) -> str:
        """What the configuration calls an option."""
        return f"model.regularizers.{type(self).__name__}.{option}"

    def start(self, tasks: list[str], shapes: list[torch.Size]) -> None:
        """Create the state for the weights of these tasks; called once, before anything else.

        Raises:
            ValueError: an option does not fit them.
        """
        self.tasks = tasks

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """What there is to show: numbers, and matrices [T, T] with values from -1 to 1."""
        return {}


class SmoothRegularizer(Regularizer):
    """A term with a gradient, which joins that of the losses; it may act on its own state after each step."""

    @abstractmethod
    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""

    def update(self, weights: Sequence[Tensor]) -> None:
        """Learn from the weights after a step of the optimizer."""


class ProximalRegularizer(Regularizer):
    """A term whose proximal map is taken of the weights after each step: some of them end at exactly zero.

    Under Adam every input has a step of its own, the rate over the root of the mean of its v̂. That is no exact proximal
    step of any objective, but a plain one of the rate zeroes nothing.
    """

    equal_shapes = False

    def begin(self, weights: Sequence[Tensor]) -> None:
        """See the weights before the first step of a training, or of one that goes on."""

    @abstractmethod
    def shrink(self, weights: Sequence[Tensor], present: Sequence[bool], steps: Tensor) -> None:
        """Map the weights in place.

        Args:
            weights: as a step of the optimizer left them.
            present: whether each of them took part in it; others stay as they are.
            steps: [D] step of each input, at least 0.
        """


def joined(weights: Sequence[Tensor]) -> Tensor:
    """A [D, Σ outputs]: the columns are the outputs of one task after the other."""
    return torch.cat([weight.flatten(1) for weight in weights]).mT


def stacked(weights: Sequence[Tensor]) -> Tensor:
    """W [D, outputs, T]."""
    return torch.stack([weight.flatten(1).mT for weight in weights], dim=-1)


def vectors(weights: Sequence[Tensor]) -> Tensor:
    """A [D · outputs, T]: a column a task."""
    return torch.stack([weight.flatten() for weight in weights], dim=-1)


def assign(weights: Sequence[Tensor], matrix: Tensor, present: Sequence[bool]) -> None:
    """Write A [D, Σ outputs], joined as by `joined`, into the weights of the tasks that are present."""
    parts = torch.split(matrix.mT, [len(weight) for weight in weights])
    for weight, part, here in zip(weights, parts, present, strict=True):
        if here:
            weight.copy_(part.reshape(weight.shape))


def correlation(matrix: Tensor) -> Tensor:
    """A covariance [T, T] divided by its standard deviations; zero where one is zero."""
    scale = matrix.diagonal().sqrt()
    return (matrix / (scale * scale[:, None]).where(scale * scale[:, None] > 0, 1)).clamp(-1, 1)


def cosines(a: Tensor) -> Tensor:
    """[T, T] between the columns of A [D, T]."""
    return correlation(a.mT @ a)
