"""How far a run is in its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from app.transfer.phases import Phase
from models.errors import ConfigurationError


class Progress:
    """Which phase a run is in: what a checkpoint holds of a schedule.

    Args:
        phases: The schedule.
        higher_is_better: The direction of the curve by which phases with `patience` end.

    Attributes:
        begun: Optimizer steps at which the second and later phases began.
        best: The best value of the curve in this phase, None before its first validation.
        stalled: Validations in a row that were no better.
    """

    def __init__(self, phases: Sequence[Phase], higher_is_better: bool) -> None:
        self.phases, self.higher_is_better = phases, higher_is_better
        self.begun: list[int] = []
        self.best: float | None = None
        self.stalled = 0

    @property
    def number(self) -> int:
        """The phase, counted from 0."""
        return len(self.begun)

    @property
    def phase(self) -> Phase:
        """The phase."""
        return self.phases[self.number]

    def ended(self, step: int, epoch: int) -> bool:
        """Whether an end of the phase has come, before optimizer step `step` of epoch `epoch`."""
        ends = (self.phase.until_step, step), (self.phase.until_epoch, epoch), (self.phase.patience, self.stalled)
        return any(end is not None and value >= end for end, value in ends)

    def advance(self, step: int) -> None:
        """Begin the next phase at an optimizer step."""
        self.begun.append(step)
        self.best, self.stalled = None, 0

    def observe(self, value: float) -> bool:
        """Take a validation's value; whether it is the best of the phase."""
        sign = 1 if self.higher_is_better else -1
        better = not isnan(value) and (self.best is None or sign * value > sign * self.best)
        self.best, self.stalled = (value, 0) if better else (self.best, self.stalled + 1)
        return better

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"begun": list(self.begun), "best": self.best, "stalled": self.stalled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: Its run was in a phase that the schedule does not have.
        """
        if len(state["begun"]) >= len(self.phases):
            raise ConfigurationError(
                "schedule", f"the checkpoint is in phase {len(state['begun']) + 1}", f"{len(self.phases)} phases"
            )
        self.begun, self.best, self.stalled = list(state["begun"]), state["best"], state["stalled"]
