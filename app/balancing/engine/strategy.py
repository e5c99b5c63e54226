"""How a step's losses become its update: two calls that every strategy answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord


class Strategy(ABC):
    """Takes a step's gradients micro-batch by micro-batch, and makes them the update at its end."""

    @abstractmethod
    def take(
        self, losses: Mapping[int, Tensor], scalars: Tensor | None, micro_batch: MicroBatch, parameters: Parameters
    ) -> None:
        """Take the gradients of a micro-batch.

        Args:
            losses: Task → its part of its loss, times the scale; empty where no row has a label.
            scalars: [T'] ∂scalar/∂losses; None where they follow from the whole step's losses, which is not over.
            micro_batch: Where it stands.
            parameters: What to write to.
        """

    @abstractmethod
    def write(self, scalars: Tensor, scale: Tensor, step: Step, parameters: Parameters) -> StepRecord:
        """Let every `.grad` hold the update of the step, summed over the ranks. Collective.

        Args:
            scalars: [T'] ∂scalar/∂losses.
            scale: Factor of the losses that were taken.
            step: The step.
            parameters: What to write to.

        Returns:
            What the step showed.
        """


def by_task(step: Step, values: Tensor) -> dict[int, Tensor]:
    """Task → its item of `values` [T']."""
    return dict(zip(step.present.tolist(), values, strict=True))


def rescaled(gramian: Tensor, factors: Tensor) -> Tensor:
    """The Gramian [T', T'] of gradients that are multiplied by `factors` [T']."""
    by = factors.to(gramian)
    return by[:, None] * gramian * by


def scale_own(step: Step, factors: Tensor, parameters: Parameters) -> None:
    """Multiply the gradients of the tasks' own parameters by `factors` [T']."""
    for task, factor in by_task(step, factors).items():
        for parameter in parameters.own[task]:
            if parameter.grad is not None:
                parameter.grad *= factor
