"""The nouns of balancing: T losses become one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Step:
    """One optimizer step, over all ranks and micro-batches.

    Attributes:
        number: Optimizer steps before it.
        epoch: Its epoch, from 0.
        present: [T'] indices of the tasks with a labelled row in it, ascending. The others take no part in it.
    """

    number: int
    epoch: int
    present: Tensor


class Scalarizer(nn.Module, ABC):
    """Losses → the scalar that is minimised. Shared and task-specific parameters follow it alike.

    The network's update needs only ∂scalar/∂losses, a weight a task, which is taken at the losses of the whole step.
    Its own parameters, if it has any, are trained by the network's optimizer; a task's are in parameters of their own,
    so that an absent task's are left alone. Random numbers come from torch's global generator, seeded by the step.

    Attributes:
        linear: Whether the weights are known before the step's losses are.
        wants_norms: Whether `observe` needs the norms of the tasks' gradients at the last shared layer.
        looks_again: Whether `look_again` needs the losses of the same batch after the update.
    """

    linear: bool = False
    wants_norms: bool = False
    looks_again: bool = False

    def start(self, tasks: int) -> None:
        """Create the state for this many tasks; called once, before anything else."""

    @abstractmethod
    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The scalar, differentiable in `losses` [T'], which are those of `step.present`. Changes no state."""

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """See a step's losses [T'], and where `wants_norms` the gradients' norms [T'], before the optimizer steps."""

    def look_again(self, losses: Tensor, step: Step) -> None:
        """See the losses [T'] of the same batch after the optimizer has stepped."""


class Weighting(nn.Module, ABC):
    """Gramian of the tasks' gradients → weights of the sum that the shared parameters follow.

    Task-specific parameters follow their own task's gradient. Random numbers come from torch's global generator, which
    is seeded by the step.
    """

    def start(self, tasks: int) -> None:
        """Create the state for this many tasks; called once, before anything else."""

    @abstractmethod
    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T'] of the tasks `step.present`.

        Args:
            gramian: [T', T'] J Jᵀ in float64 on the CPU, at the losses' true scale, finite, with a positive diagonal.
            step: The step.
        """


def normalised(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """The Gramian [T', T'] divided by the mean of its diagonal, and that mean.

    Solvers have absolute tolerances, so that the loss's scale would otherwise decide what they find.
    """
    mean = gramian.diagonal().mean()
    return gramian / mean, mean
