"""One optimizer step: where a micro-batch stands in it, what it writes to, what it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """The trainable parameters.

    Attributes:
        shared: Those that several tasks' losses reach.
        own: By task, those that its loss alone reaches.
        compared: The shared ones at which the norms of the tasks' gradients are compared.
    """

    shared: list[nn.Parameter]
    own: list[list[nn.Parameter]]
    compared: list[nn.Parameter]

    def all_own(self) -> list[nn.Parameter]:
        """Those of every task."""
        return [parameter for task in self.own for parameter in task]


@dataclass
class StepRecord:
    """What a step showed.

    Attributes:
        present: [T'] indices of its tasks.
        weights: [T'] factors of the tasks' losses in the shared parameters' update; None under a method that has none.
        gramian: [T', T'] of the tasks' gradients in float64, if the step found it.
    """

    present: Tensor
    weights: Tensor | None
    gramian: Tensor | None = None
