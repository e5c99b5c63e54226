"""Predictions as a table."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class PredictionWriter(Callback):
    """Writes what `predict_step` gives to a CSV file, a line a row of the split, in their order.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, list[Any]] = defaultdict(list)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's columns."""
        for name, values in outputs.items():
            self._columns[name] += values

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the ranks' rows and write them."""
        parts: list[Any] = [dict(self._columns)]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            dist.all_gather_object(parts, dict(self._columns))
        if trainer.is_global_zero:
            rows = sorted(row for part in parts for row in zip(*part.values(), strict=True))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerows([parts[0].keys(), *rows])
        rank_zero_info(f"Wrote {self.path}")
