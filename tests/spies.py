"""Callbacks that tests add to real runs, by `class_path`, as a user would."""

import json
import os
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback


class RecordSteps(Callback):
    """Appends a JSON line a micro-batch to `<folder>/steps-<rank>.jsonl`, and keeps the parameters after each step."""

    def __init__(self, folder: str, parameters: bool = False) -> None:
        self.folder, self.parameters = Path(folder), parameters
        self.kept = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        line = {
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "rows": batch.ids.tolist(),
            "tasks": {task: batch.ids[rows].tolist() for task, rows in batch.rows.items()},
            "counts": batch.counts,
        }
        with (self.folder / f"steps-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.parameters:
            state = [*pl_module.parameters(), *(b for name, b in pl_module.named_buffers() if "running" in name)]
            self.kept.append(torch.cat([value.detach().flatten() for value in state]))

    def on_train_end(self, trainer, pl_module):
        if self.parameters:
            torch.save(torch.stack(self.kept), self.folder / f"parameters-{trainer.global_rank}.pt")


class SignalAt(Callback):
    """Sends this process a signal during micro-batch `batch` of `epoch`, on `rank` alone."""

    def __init__(self, number: int = int(signal.SIGKILL), epoch: int = 0, batch: int = 0, rank: int = 0) -> None:
        self.number, self.when, self.rank = number, (epoch, batch), rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.when and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)
