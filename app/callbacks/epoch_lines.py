"""What is said after every epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import isfinite
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from app.reports.duration import duration
from app.runs import tell
from app.training.module import MultiTaskModule
from app.training.schedulers import total_epochs, total_steps


class EpochLines(Callback):
    """Tells one line an epoch: each task's main figure, what the best checkpoint is chosen by, and the time.

    A task's main figure is the first of its metrics in the last validation, or its loss; without any validation, its
    mean training loss.

    Args:
        monitor: The curve that the best checkpoint is chosen by.
        higher_is_better: Its direction.
    """

    def __init__(self, monitor: str, higher_is_better: bool) -> None:
        self.monitor, self.sign = monitor, 1 if higher_is_better else -1
        self._best: tuple[float, int] | None = None  # value, and after how many epochs

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        best = state_dict["best"]
        self._best = None if best is None else (float(best[0]), int(best[1]))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure the time."""
        self._since, self._from = time.monotonic(), trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best value, as the best checkpoint does."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or trainer.sanity_checking or not isfinite(value):
            return
        if self._best is None or self.sign * value.item() > self.sign * self._best[0]:
            self._best = value.item(), trainer.current_epoch + 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the line."""
        assert isinstance(pl_module, MultiTaskModule)
        done, of = trainer.current_epoch + 1, total_epochs(trainer)
        figures = [f"{name} {value:.4f}" for name, value in _main_figures(trainer, pl_module)]
        epochs = f"epochs {done}/{of}" if of else f"epochs {done}"
        tell(" · ".join([epochs, *figures, *self._monitored(trainer), self._time(trainer)]))

    def _monitored(self, trainer: Trainer) -> Iterator[str]:
        if self.monitor not in trainer.callback_metrics:
            return
        value = trainer.callback_metrics[self.monitor].item()
        if self._best is None or self._best[1] == trainer.current_epoch + 1:
            yield f"{self.monitor} {value:.4f}" + (" (best)" if self._best else "")
        else:
            yield f"{self.monitor} {value:.4f} (best {self._best[0]:.4f} after {self._best[1]})"

    def _time(self, trainer: Trainer) -> str:
        """How long the epoch took, and how long the rest will take at its pace."""
        now, now_at, total = time.monotonic(), trainer.global_step, total_steps(trainer)
        took, steps = now - self._since, now_at - self._from
        self._since, self._from = now, now_at
        left = (total or now_at) - now_at
        return duration(took) + (f", {duration(took / steps * left)} left" if left > 0 and steps else "")


def _main_figures(trainer: Trainer, module: MultiTaskModule) -> Iterator[tuple[str, float]]:
    """Task and quantity, and the value."""
    values = {name: value.item() for name, value in trainer.callback_metrics.items() if name.split("/")[1:2] == ["val"]}
    if not values:
        means, rows = module.stages["train"].losses.compute()
        losses = zip(module.network.tasks, means.flatten().tolist(), rows.flatten().tolist(), strict=True)
        yield from ((f"{task} loss", mean) for task, mean, count in losses if count)
    for task, better in module.stages["val"].better.items():
        curves = [curve for curve in [*better, f"loss/val/{task}"] if curve in values and curve.count("/") == 2]
        if curves:
            yield f"{task} {curves[0].split('/')[0].replace('_', ' ')}", values[curves[0]]
