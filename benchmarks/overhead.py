"""What `fit` costs beyond a bare PyTorch loop: same network, data, batch size and validation, in pairs.

`python benchmarks/overhead.py` prints, for a short and a long step, the wall time per epoch after the first of both
(training and validation, median over rounds), their ratio pair by pair, and the difference in milliseconds a step.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.callbacks import (
    BestCheckpoint,
    Charts,
    Interruption,
    LastCheckpoint,
    NonFinite,
    Resumption,
    StepCurves,
    TaskProgressBar,
)
from app.training.module import MultiTaskModule
from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from datamodules.sources import Digits
from models.backbones import LeNet

EPOCHS, ROUNDS = 3, 6
CASES = {  # widths, batch size, training rows
    "short step": ((32, 64, 64), 64, 12_800),
    "long step": ((128, 256, 256), 128, 6_400),
}


def build(widths: tuple[int, ...], batch: int, rows: int) -> tuple[MultiTaskDataModule, MultiTaskModule]:
    seed_everything(0, verbose=False)
    data = MultiTaskDataModule({"digits": Digits(rows, 2_000, 10)}, Shared(batch))
    backbone = partial(LeNet, widths=widths, kernel_size=3, padding=1, features=128)
    return data, MultiTaskModule(data.targets, data.input_shape, backbone)


def bare(widths: tuple[int, ...], batch: int, rows: int) -> list[float]:
    """Seconds of each epoch of a loop without a library: forward, losses, backward, step; losses in validation."""
    data, model = build(widths, batch, rows)
    train, val = (data.datasets[split].splits[0] for split in ("train", "val"))
    optimizer = torch.optim.AdamW(model.parameters())

    def loss(split, index):
        x, labels = split.__getitems__(index)
        features = model.network.sharing.backbone(x)
        return sum(
            model.network.tasks[name].losses(model.network.heads[name](features), y).mean()
            for name, y in labels.items()
        )

    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        model.train()
        for index in torch.randperm(len(train)).split(batch):
            optimizer.zero_grad()
            loss(train, index).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for index in torch.arange(len(val)).split(256):
                loss(val, index)
        seconds.append(time.perf_counter() - start)
    return seconds


class Clock(Callback):
    """Notes when an epoch begins, and when the last one has ended with everything that `fit` does there."""

    def __init__(self) -> None:
        self.times = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, trainer, pl_module) -> None:
        self.times.append(time.perf_counter())


def fit(widths: tuple[int, ...], batch: int, rows: int) -> list[float]:
    """Seconds of each epoch of the trainer, set up as `train.py fit` does."""
    data, model = build(widths, batch, rows)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=EPOCHS,
            use_distributed_sampler=False,
            enable_model_summary=False,
            logger=TensorBoardLogger(folder, default_hp_metric=False),
            callbacks=[
                clock,
                Resumption(dict),
                Charts(),
                StepCurves(),
                NonFinite(3),
                Interruption(),
                TaskProgressBar(),
                BestCheckpoint(Path(folder), "loss/val/total", higher_is_better=False),
                LastCheckpoint(Path(folder)),
            ],
        )
        with redirect_stdout(StringIO()):  # the progress bar is drawn, but not seen
            trainer.fit(model, data)
    return [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]


def main() -> None:
    warnings.filterwarnings("ignore")
    table = Table(
        "case", "steps", "bare, ms a step", "fit, ms a step", "ratio (min–max)", "more, ms a step", title="Overhead"
    )
    for name, case in CASES.items():
        steps = case[2] // case[1]
        pairs = []
        for number in range(ROUNDS):  # the second of a pair finds another state of the machine than the first
            order = (bare, fit) if number % 2 else (fit, bare)
            times = {loop: statistics.median(loop(*case)[1:]) for loop in order}
            pairs.append((times[bare], times[fit]))
        ratios = [ours / theirs for theirs, ours in pairs]
        theirs, ours = (statistics.median(times) / steps * 1e3 for times in zip(*pairs, strict=True))
        more = statistics.median((ours - theirs) / steps * 1e3 for theirs, ours in pairs)
        ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
        table.add_row(name, str(steps), f"{theirs:.2f}", f"{ours:.2f}", ratio, f"{more:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
