"""An optimizer with its scheduler, as the trainer wants them and as a resumed run goes on with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from app.training.schedulers import SchedulerFactory, WarmupCosine, completed
from models.errors import ConfigurationError

SCHEDULED = {"lr", "momentum", "betas"}  # options that a scheduler may set


def with_scheduler(
    optimizer: Optimizer, factory: SchedulerFactory | None, interval: str, steps: int | None
) -> dict[str, Any]:
    """Optimizer and scheduler under Lightning's keys.

    Args:
        optimizer: Its rates are scheduled.
        factory: Makes the scheduler, if there is one.
        interval: What it counts, "step" or "epoch".
        steps: Of the run, or None if it has no end.
    """
    if factory is None:
        return {"optimizer": optimizer}
    scheduler = completed(factory, optimizer, steps)
    schedule: dict[str, Any] = {"scheduler": scheduler, "interval": interval}
    if isinstance(scheduler, ReduceLROnPlateau):
        schedule |= {"interval": "epoch", "monitor": "loss/val/total", "strict": False}
    return {"optimizer": optimizer, "lr_scheduler": schedule}


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of each parameter group."""
    return [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]


def restore_options(
    optimizer: Optimizer,
    options: Iterable[Mapping[str, Any]],
    schedulers: Sequence[LRScheduler | ReduceLROnPlateau],
    steps: int | None,
) -> None:
    """Give an optimizer the options of the configuration again, those apart that a scheduler sets.

    Args:
        optimizer: As a checkpoint restored it.
        options: Of `options_of`, before.
        schedulers: As the checkpoint restored them.
        steps: Of the run, or None if it has no end.

    Raises:
        ValueError: A scheduler of torch was made for another number of steps, and cannot be stretched.
    """
    for group, configured in zip(optimizer.param_groups, options, strict=True):
        kept = SCHEDULED & group.keys() if schedulers else set()
        group.update({key: value for key, value in configured.items() if key not in kept})
    for scheduler in schedulers:
        if isinstance(scheduler, WarmupCosine):  # whose closed form gives the rate of any step, from the one configured
            for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
                group["lr"] = rate
        if isinstance(scheduler, OneCycleLR) and steps is not None and scheduler.total_steps < steps:
            raise ConfigurationError(
                "model.lr_scheduler",
                f"a OneCycleLR of {scheduler.total_steps} steps, as in the checkpoint, cannot be "
                f"stretched to the run's {steps}; WarmupCosine can",
            )
