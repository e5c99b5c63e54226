"""Rows that cannot be read, where `data.on_error` is to skip them."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from app.ranks.collectives import gathered, sum_over_ranks
from datamodules.batch import MultiTaskBatch

KEY = "skipped_rows"
NAMED, WARNED = 3, 20  # rows in the closing line, and of each process and stage in warnings


class SkippedRows(Callback):
    """Counts the rows that were drawn and left out, and says which they are.

    Each process warns of the first of its own rows, once of each. `skipped/<stage>` is how many were left out in an
    epoch, in all processes. A line at the end of training, validation, test or prediction names the first few.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()  # stage → rows of the epoch so far, on this process
        self._rows: dict[str, dict[str, None]] = defaultdict(dict)  # stage → why, in the order of their first time
        self._loaded = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on counting where the checkpoint stopped."""
        if trainer.is_global_zero:
            self._counts["train"] += self._loaded

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        self._note("train", batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self._note("val", batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self._note("test", batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self._note("predict", batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how many."""
        self._log_count(trainer, pl_module, "train")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how many, after a trial run of the validation start anew."""
        if trainer.sanity_checking:
            self._counts.clear()
        else:
            self._log_count(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how many."""
        self._log_count(trainer, pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which."""
        self._say(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which, if no training goes on."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._say(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which."""
        self._say(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which."""
        self._say(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add `skipped_rows`: how many in the epoch so far, in all processes. Collective."""
        checkpoint[KEY] = sum(gathered(self._counts["train"]))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the number for the start of training."""
        self._loaded = checkpoint.get(KEY, 0)

    def _note(self, stage: str, batch: MultiTaskBatch) -> None:
        self._counts[stage] += len(batch.skipped)
        for reason in batch.skipped:
            if reason not in self._rows[stage] and len(self._rows[stage]) < WARNED:
                warnings.warn(f"a row is left out: {reason}", stacklevel=2)
            self._rows[stage][reason] = None

    def _log_count(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        count = torch.tensor(float(self._counts.pop(stage, 0)), device=trainer.strategy.root_device)
        sum_over_ranks(count)
        pl_module.log(f"skipped/{stage}", count)

    def _say(self, trainer: Trainer) -> None:
        parts = gathered({stage: list(rows) for stage, rows in self._rows.items()})
        for stage in dict.fromkeys(stage for part in parts for stage in part):
            rows = list(dict.fromkeys(row for part in parts for row in part.get(stage, [])))
            if rows:
                first = "; ".join(rows[:NAMED]) + ("; …" if len(rows) > NAMED else "")
                rank_zero_info(f"{stage}: left out because they could not be read, {len(rows)} in all: {first}")
        self._rows.clear()
