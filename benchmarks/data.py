"""What loading costs: rows a second beside a peer's in the same run, and what opening a large table takes.

`python benchmarks/data.py` prints
- rows in memory: an epoch of 28×28 rows with two labels, against a DataLoader over a Dataset of single rows;
- JPEG files: an epoch of a folder of images, against torchvision's ImageFolder in a DataLoader with the same transform
  and workers;
- the sampler: drawing a step's rows, against a training step of LeNet with them;
- a CSV with a million rows: seconds to open, growth of the process.
Ratios are medians over pairs in alternating order.
"""

from __future__ import annotations

import csv
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table as Printed
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.training.module import MultiTaskModule
from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.transforms import TorchvisionTransforms
from datamodules.sampling import PerTask, Shared
from datamodules.sources import Folder, Source, Table, TensorSplit
from datamodules.targets import Categorical
from models.backbones import LeNet

ROUNDS, BATCH = 5, 256
TEN = tuple(str(digit) for digit in range(10))


class Memory(Source):
    """Random 28×28 rows with two labels."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.targets = {"left": Categorical(TEN), "right": Categorical(TEN)}

    def split(self, name: str) -> TensorSplit:
        rows = self.rows if name == "train" else 10
        labels = {task: torch.arange(rows) % 10 for task in self.targets}
        return TensorSplit(torch.rand(rows, 1, 28, 28), labels)


class OneByOne(Dataset):
    """The same rows, as a Dataset is usually written."""

    def __init__(self, split: TensorSplit) -> None:
        self.inputs, self.labels = split.inputs, {task: split.labels(task) for task in split.labelled}

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int):
        return self.inputs[row], {task: labels[row] for task, labels in self.labels.items()}


def seconds(loader: DataLoader) -> float:
    """An epoch of a loader whose workers have started: the second one."""
    for _ in loader:
        pass
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def pairs(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float, str]:
    """Median seconds of both, and the ratio of their speeds, ours over theirs."""
    times: dict[Callable[[], float], list[float]] = {ours: [], theirs: []}
    for number in range(ROUNDS):
        for each in (ours, theirs) if number % 2 else (theirs, ours):
            times[each].append(each())
    ratios = [b / a for a, b in zip(times[ours], times[theirs], strict=True)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return statistics.median(times[ours]), statistics.median(times[theirs]), ratio


def memory(printed: Printed) -> None:
    rows = 50_000
    data = MultiTaskDataModule({"memory": Memory(rows)}, Shared(BATCH))
    peer = DataLoader(OneByOne(data.datasets["train"].splits[0]), BATCH, shuffle=True)
    ours, theirs, ratio = pairs(lambda: seconds(data.train_dataloader()), lambda: seconds(peer))
    printed.add_row("rows in memory, 28×28", f"{rows / ours:,.0f} rows/s", f"{rows / theirs:,.0f} rows/s", ratio)


def jpegs(printed: Printed, folder: Path, workers: int) -> None:
    images = sorted((folder / "train").rglob("*.jpg"))
    resize = [v2.Resize((160, 160)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    source = {"photos": Folder(str(folder), task="kind")}
    data = MultiTaskDataModule(
        source, Shared(32), transform=TorchvisionTransforms(train=resize, eval=resize), num_workers=workers
    )
    peer = DataLoader(
        ImageFolder(folder / "train", v2.Compose(resize)),
        32, shuffle=True, num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip
    loader = data.train_dataloader()
    ours, theirs, ratio = pairs(lambda: seconds(loader), lambda: seconds(peer))
    rates = (f"{len(images) / each:,.0f} rows/s" for each in (ours, theirs))
    printed.add_row(f"JPEG files, {workers} workers", *rates, ratio)


def sampler(printed: Printed) -> None:
    """Draws of a step beside LeNet's training step with its rows."""
    data = MultiTaskDataModule({"memory": Memory(50_000)})
    model = MultiTaskModule(data.targets, data.input_shape, partial(LeNet, widths=(10, 20), features=50))
    optimizer = torch.optim.Adam(model.parameters())
    for sampling in (Shared(BATCH), PerTask(BATCH // 2)):
        data.sampling = sampling
        loader = data.train_dataloader()
        start = time.perf_counter()
        steps = sum(1 for _ in loader.sampler)
        draw = (time.perf_counter() - start) / steps
        times = []
        for batch in loader:
            start = time.perf_counter()
            optimizer.zero_grad()
            outputs = model(batch.inputs, batch.rows)
            losses = [model.network.tasks[task].losses(outputs[task], y).mean() for task, y in batch.targets.items()]
            torch.stack(losses).sum().backward()
            optimizer.step()
            times.append(time.perf_counter() - start)
        step = statistics.median(times)
        name = f"drawing a step, {type(sampling).__name__}"
        printed.add_row(name, f"{draw * 1e6:.0f} µs", f"LeNet step {step * 1e3:.1f} ms", f"{draw / step:.2%}")


def open_table(path: str) -> None:
    """Print seconds and growth in MiB; run in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    source = Table(path, targets=["species", "alive", "weight", "marks"], image="file")
    rows = sum(len(source.split(name)) for name in ("train", "val", "test"))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{rows:,}|{time.perf_counter() - start:.1f} s|{(after - before) / 1024:.0f} MiB more at most")


def million(printed: Printed, folder: Path) -> None:
    path, draw = folder / "million.csv", np.random.default_rng(0)
    species = draw.choice(["owl", "wren", "jay", ""], 1_000_000, p=[0.3, 0.2, 0.2, 0.3])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "species", "alive", "weight", "marks"])
        for row, kind in enumerate(species.tolist()):
            marks = ("ring", "tag", "ring|tag")[row % 3]
            writer.writerow([f"images/{row // 1000}/{row}.jpg", kind, ("no", "yes")[row % 2], f"{row / 7:.3f}", marks])
    command = [sys.executable, __file__, "--open-table", str(path)]
    opened = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("|")
    printed.add_row(f"opening a CSV of {opened[0]} rows", *opened[1:], "")


def write_jpegs(folder: Path, images: int) -> None:
    """Photo-like images of 320×240 in five classes, in ImageFolder's layout."""
    draw = np.random.default_rng(0)
    for number in range(images):
        split = "train" if number >= 40 else ("val", "test")[number % 2]
        path = folder / split / f"class{number // 2 % 5}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=90)


def main() -> None:
    warnings.filterwarnings("ignore")
    printed = Printed("case", "ours", "peer", "ratio: median (min–max)", title="Data")
    memory(printed)
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder), 1_540)
        for workers in (0, 2):
            jpegs(printed, Path(folder), workers)
    sampler(printed)
    with tempfile.TemporaryDirectory() as folder:
        million(printed, Path(folder))
    Console(width=120).print(printed)


if __name__ == "__main__":
    if "--open-table" in sys.argv:
        open_table(sys.argv[-1])
    else:
        main()
