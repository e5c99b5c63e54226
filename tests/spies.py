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


class FailAt(Callback):
    """Raises a ValueError in micro-batch `batch` of `epoch`, for which nothing is saved, or at the epoch's start."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        self.when = epoch, batch

    def on_train_epoch_start(self, trainer, pl_module):
        if (trainer.current_epoch, None) == self.when:
            raise ValueError("under way")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.when:
            raise ValueError("under way")


class SignalAt(Callback):
    """Sends a signal in micro-batch `batch` of `epoch`, or if `late` in the validation after it, on `rank` alone.

    It goes to this process or, as from a terminal, to its whole group.
    """

    def __init__(
        self,
        number: int = int(signal.SIGKILL),
        epoch: int = 0,
        batch: int = 0,
        rank: int = 0,
        times: int = 1,
        late: bool = False,
        group: bool = False,
    ) -> None:
        self.number, self.when, self.rank = number, (epoch, batch), rank
        self.times, self.late, self.kill = times, late, os.killpg if group else os.kill

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.when and trainer.global_rank == self.rank and not self.late:
            self.send()

    def on_validation_start(self, trainer, pl_module):
        if self.late and not trainer.sanity_checking and trainer.current_epoch == self.when[0]:
            self.send()

    def send(self):
        for _ in range(self.times):
            self.kill(os.getpgrp() if self.kill is os.killpg else os.getpid(), self.number)


class RecordThreads(Callback):
    """Writes how many threads a rank computes with to `<folder>/threads-<rank>`."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module):
        (self.folder / f"threads-{trainer.global_rank}").write_text(str(torch.get_num_threads()))


class SaveEnd(Callback):
    """Saves the state of the network after training, as every rank has it, as `<folder>/end-<rank>.pt`."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_fit_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), self.folder / f"end-{trainer.global_rank}.pt")
