"""One optimizer step: where a micro-batch stands in it, what it writes to, what it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from app.balancing.base import Step


@dataclass
class MicroBatch:
    """Where a micro-batch stands in its optimizer step.

    Attributes:
        step: The step.
        of: Number of micro-batches of a step.
        losses: In the step's last one: [T'] the step's losses, over all ranks and micro-batches. Else None.
        rows: Task → its rows of the shared activations, if that is known; of `size` rows in all.
    """

    step: Step
    of: int
    losses: Tensor | None
    rows: Mapping[int, Tensor] = field(default_factory=dict)
    size: int = 0


@dataclass
class Parameters:
    """The trainable parameters: those that several tasks' losses reach, and by task those that its loss alone does."""

    shared: list[nn.Parameter]
    own: list[list[nn.Parameter]]

    def all_own(self) -> list[nn.Parameter]:
        """Those of every task."""
        return [parameter for task in self.own for parameter in task]


@dataclass
class Balance:
    """What a step showed.

    Attributes:
        present: [T'] indices of its tasks.
        weights: [T'] factors of the tasks' losses in the shared parameters' update; None under a method that has none.
        gramian: [T', T'] of the tasks' gradients in float64, if the step found it.
    """

    present: Tensor
    weights: Tensor | None
    gramian: Tensor | None = None
