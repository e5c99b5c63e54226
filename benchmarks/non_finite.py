"""What watching for numbers that are not finite costs: blocks of steps with and without it, in turn in one training.

`python benchmarks/non_finite.py` (`--device cuda` on a GPU) prints, for each network, the milliseconds of a step
without the watching of losses and gradients and the ratio with it (median over pairs of blocks), and what the check of
a batch's items takes of such a step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.callbacks import NonFinite
from app.training.module import MultiTaskModule
from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from datamodules.sources import Source, TensorSplit
from datamodules.targets import Categorical
from models.backbones import LeNet, TimmBackbone

PAIRS = 30
TEN = tuple(str(digit) for digit in range(10))
LENET = partial(LeNet, kernel_size=3, padding=1, features=128)
CASES = {  # device → name → backbone, shape of a sample, batch size, steps a block
    "cpu": {
        "LeNet, short step": (partial(LENET, widths=(32, 64, 64)), (1, 28, 28), 64, 20),
        "LeNet, long step": (partial(LENET, widths=(128, 256, 256)), (1, 28, 28), 128, 4),
        "ResNet-18, 64 px": (partial(TimmBackbone, name="resnet18", pretrained=False), (3, 64, 64), 32, 2),
    },
    "cuda": {
        "LeNet, short step": (partial(LENET, widths=(32, 64, 64)), (1, 28, 28), 64, 50),
        "ResNet-50, 224 px": (partial(TimmBackbone, name="resnet50", pretrained=False), (3, 224, 224), 64, 10),
    },
}


class Noise(Source):
    """Random rows with two labels, a batch of them."""

    def __init__(self, shape: tuple[int, ...], rows: int) -> None:
        self.shape, self.rows = shape, rows
        self.targets = {"left": Categorical(TEN), "right": Categorical(TEN)}

    def split(self, name: str) -> TensorSplit:
        labels = {task: torch.arange(self.rows) % 10 for task in self.targets}
        return TensorSplit(torch.rand(self.rows, *self.shape), labels)


class Alternating(Callback):
    """Watches in every second block of steps, and notes how long each block took."""

    def __init__(self, steps: int) -> None:
        self.steps, self.watching, self.on, self.seconds = steps, NonFinite(3), False, []

    def on_train_start(self, trainer, pl_module) -> None:
        self.watching.on_train_start(trainer, pl_module)
        self.start = time.perf_counter()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if self.on:
            self.watching.on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.on:
            self.watching.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step % self.steps == 0:
            wait(pl_module.device.type)
            self.seconds.append((time.perf_counter() - self.start) / self.steps)
            self.on = not self.on
            self.start = time.perf_counter()


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def blocks(device: str, backbone: partial, shape: tuple[int, ...], batch: int, steps: int) -> list[float]:
    """Seconds a step of each block, without and with watching in turn; the first pair warms up."""
    seed_everything(0, verbose=False)
    data = MultiTaskDataModule({"noise": Noise(shape, batch)}, Shared(batch))
    clock = Alternating(steps)
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_steps=2 * (PAIRS + 1) * steps,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(MultiTaskModule(data.targets, data.input_shape, backbone), data)
    return clock.seconds[2:]


def check_of_items(shape: tuple[int, ...], batch: int) -> float:
    """Seconds that the items of a batch take to be checked, as the reader does: a sum shows what is not finite."""
    items = torch.rand(batch, *shape)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        bool(items.sum().isfinite())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=list(CASES), default="cpu")
    device = parser.parse_args().device
    warnings.filterwarnings("ignore")
    table = Table("network", "ms a step", "ratio when watched", "check of its items, of a step", title="Watching")
    for name, case in CASES[device].items():
        seconds = blocks(device, *case)
        pairs = list(zip(seconds[::2], seconds[1::2], strict=True))
        step = statistics.median(without for without, _ in pairs)
        ratio = statistics.median(watched / without for without, watched in pairs)
        items = check_of_items(*case[1:3]) / step
        table.add_row(name, f"{step * 1e3:.2f}", f"{ratio:.4f}", f"{items:.2%}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
