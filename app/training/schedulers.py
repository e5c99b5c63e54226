"""Learning-rate schedules: one that torch does not have, and how long one lasts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, cos, pi
from typing import Any
from warnings import warn

from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from models.errors import ConfigurationError

SchedulerFactory = Callable[[Optimizer], LRScheduler]


class WarmupCosine(LRScheduler):
    """Linear warm-up from zero, then half a cosine down to `final_factor` (Loshchilov & Hutter 2017; Goyal 2017).

    Every rate is a closed form of the step: step t of W warm-up steps has the factor (t + 1) / (W + 1), a later one of
    S in all has f + (1 − f) · (1 + cos(π (t − W) / (S − W))) / 2.

    Args:
        optimizer: Whose rates are scheduled.
        warmup_steps: Optimizer steps W before the full rate is reached.
        final_factor: Factor f of the rate at the end of the run.
        total_steps: Optimizer steps S of the run; worked out from the data and the trainer if None.

    Raises:
        ValueError: The warm-up is negative, or the run has no end.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 0,
        final_factor: float = 0.0,
        total_steps: int | None = None,
    ) -> None:
        if total_steps is None:
            raise ConfigurationError("model.lr_scheduler.total_steps", "must be given for a run without end", "None")
        if warmup_steps < 0:
            raise ConfigurationError("model.lr_scheduler.warmup_steps", "must not be negative", warmup_steps)
        if warmup_steps >= total_steps:  # no error: a trial of a few steps is a usual thing
            warn(f"the run ends after {total_steps} steps, within the warm-up of {warmup_steps}", stacklevel=2)
        self.warmup_steps, self.final_factor, self.total_steps = warmup_steps, final_factor, total_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each parameter group."""
        return [rate * self._factor(self.last_epoch) for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The step alone: in a resumed run the configuration says how long it is."""
        return {"last_epoch": self.last_epoch, "_last_lr": self._last_lr, "_step_count": self._step_count}

    def _factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.final_factor + (1 - self.final_factor) * (1 + cos(pi * progress)) / 2


def completed(factory: SchedulerFactory, optimizer: Optimizer, steps: int | None) -> LRScheduler:
    """The scheduler, of this many steps where it has an argument `total_steps` that the user left open."""
    given = factory.keywords if isinstance(factory, partial) else {}
    if given.get("total_steps", 0) is None and given.get("epochs") is None:
        assert isinstance(factory, partial)
        factory = partial(factory, total_steps=steps)
    return factory(optimizer)


def configured_epochs(max_epochs: int | None, max_steps: int) -> int | None:
    """Epochs of a run with these settings of the trainer, or None if they have no end; Lightning's 1000 by default."""
    if max_epochs is None:
        return 1000 if max_steps == -1 else None
    return None if max_epochs == -1 else max_epochs


def epoch_steps(trainer: Trainer) -> int:
    """Optimizer steps of an epoch."""
    batches: int = trainer.datamodule.train_batches()  # type: ignore[attr-defined]  # set by a connector
    return ceil(batches / trainer.accumulate_grad_batches)


def total_epochs(trainer: Trainer) -> int | None:
    """Epochs of the whole run, the last of which may be cut by `max_steps`, or None if it has no end."""
    steps = total_steps(trainer)
    return None if steps is None else ceil(steps / epoch_steps(trainer))


def total_steps(trainer: Trainer) -> int | None:
    """Optimizer steps of the whole run, or None if it has no end."""
    epochs = [epoch_steps(trainer) * trainer.max_epochs] if trainer.max_epochs not in (-1, None) else []
    steps = [trainer.max_steps] if trainer.max_steps != -1 else []
    return min([*epochs, *steps], default=None)
