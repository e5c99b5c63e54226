"""What happens after the optimizer has really stepped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer

Place = Literal["proximal", "second_look", "average"]
ORDER: tuple[Place, ...] = ("proximal", "second_look", "average")


class AfterStep:
    """Calls what follows a step of the optimizer, in one order, and not where a scaler of fp16 skips the step.

    `proximal`: regularizers map the weights, or learn from them; `second_look`: a balancer sees the losses of the
    step's batch once more; `average`: weights are averaged. The rates in the optimizer are still those of the step.
    """

    def __init__(self) -> None:
        self._acts: dict[Place, Callable[[], None]] = {}

    def add(self, place: Place, act: Callable[[], None]) -> None:
        """Have `act` called at its place."""
        self._acts[place] = act

    def places(self) -> list[Place]:
        """Where something is called, in order."""
        return [place for place in ORDER if place in self._acts]

    def follow(self, optimizer: Optimizer) -> None:
        """Be called by the steps of an optimizer from here on."""
        optimizer.register_step_post_hook(self._stepped)

    def _stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._acts and not skipped(optimizer):
            for place in self.places():
                self._acts[place]()


def skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer, which a scaler of fp16 always calls, has left the weights as they were."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)
