"""Balancing methods side by side on Multi-Fashion: one configuration, one learning rate, the same seeds.

`python benchmarks/multi_fashion.py FOLDER` trains `configs/multi_fashion.yaml` with each method and seed below FOLDER,
leaves out what is there already, and prints test accuracy as mean ± standard error, with the single-task networks'
first. Real images: Debian's package dataset-fashion-mnist. About 40 minutes on a quiet CPU core.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SEEDS = range(3)
SINGLE = "single-task"
METHODS = [SINGLE, "fixed", "uncertainty", "dwa", "pcgrad", "mgda", "cagrad", "upgrad", "nash_mtl", "famo"]


def train(folder: Path, method: str, seed: int) -> dict[str, float]:
    """Test accuracy of each task."""
    name = f"{method}-{seed}"
    results = folder / "runs" / name / "version_0" / "results.json"
    if not results.exists():
        own = ["--model.sharing", "IndependentNetworks"]
        own = own if method == SINGLE else ["--config", str(ROOT / "configs" / "balancing" / f"{method}.yaml")]
        command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(ROOT / "configs/multi_fashion.yaml")]
        options = ["--name", name, "--seed_everything", str(seed), "--trainer.enable_progress_bar", "false"]
        subprocess.run([*command, *own, *options], cwd=folder, check=True, capture_output=True)
    tasks = json.loads(results.read_text())["tasks"]
    return {task: figures["accuracy"] for task, figures in tasks.items()}


def row(runs: list[dict[str, float]]) -> list[str]:
    """Mean ± standard error of every task, and of the tasks' mean."""
    columns = [[run[task] for run in runs] for task in runs[0]]
    columns.append([statistics.mean(run.values()) for run in runs])
    return [
        f"{100 * statistics.mean(each):.2f} ± {100 * statistics.stdev(each) / math.sqrt(len(each)):.2f}"
        for each in columns
    ]


def main(folder: Path) -> None:
    """Train what is missing, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = Table("method", "left", "right", "mean", title="Multi-Fashion, test accuracy in %")
    for seed in SEEDS:  # a first round of all before a second one
        for method in METHODS:
            train(folder, method, seed)
    for method in METHODS:
        table.add_row(method, *row([train(folder, method, seed) for seed in SEEDS]))
    Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
