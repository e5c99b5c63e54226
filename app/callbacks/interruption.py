"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from app.callbacks.checkpoints import LastCheckpoint, between_steps
from app.ranks.collectives import several, sum_over_ranks

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Interruption(Callback):
    """Ends a run that is asked to stop (SIGINT or SIGTERM) after the current step: saves, and exits with 130.

    Where a validation or the end of the epoch follows the step, the run ends after them. One rank that is asked stops
    all of them at the same step. Asked a second time, a process stops at once.
    """

    def __init__(self) -> None:
        self.asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the two signals over from Lightning, whose handlers stop at once (SIGINT) or do not save (SIGTERM)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave, if any rank was asked to and another step would be next."""
        if between_steps(trainer) and self._any_rank_asked(trainer):
            for last in _saving(trainer):
                last.save(trainer, last.path)
            self._leave(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave between two epochs: the first one has been saved at its end."""
        if trainer.current_epoch > 0 and self._any_rank_asked(trainer):
            self._leave(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave without the test, if the wish came after the last step."""
        if self._any_rank_asked(trainer):
            raise SystemExit(INTERRUPTED)

    def _leave(self, trainer: Trainer) -> None:
        for last in _saving(trainer):
            rank_zero_info(f"Stopped after step {trainer.global_step}; `--ckpt_path last` goes on from {last.path}")
        raise SystemExit(INTERRUPTED)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.default_int_handler)

    def _any_rank_asked(self, trainer: Trainer) -> bool:
        if not several():  # without reading the device
            return self.asked
        asked = torch.tensor(float(self.asked), device=trainer.strategy.root_device)
        sum_over_ranks(asked)
        return bool(asked.item())


def _saving(trainer: Trainer) -> list[LastCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, LastCheckpoint)]
