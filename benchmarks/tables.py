"""`fit` on scikit-learn's tables of breast cancer and wine, beside its logistic regression on the same rows.

`python benchmarks/tables.py FOLDER` writes for each seed a table whose rows are divided into half for training, 15 %
for validation and the rest for testing, classes evenly, trains a small MLP on it as a user would, with a threshold
that the validation sets, and prints test figures of both: means over the seeds, and the differences. The
regression has standardised features and its default penalty, and is fitted to the rows for training alone. About four
minutes on two CPU cores.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).parents[1]
DATA = {"breast cancer": load_breast_cancer(), "wine": load_wine()}
SEEDS = range(5)
CONFIG = """\
data:
  sources:
    rows:
      class_path: Table
      init_args: {path: PATH, features: FEATURES, split: split, targets: {class: }}
  sampling: {class_path: Shared, init_args: {batch_size: 32}}
model:
  backbone: {class_path: MLP, init_args: {hidden: [32]}}
  optimizer: {class_path: AdamW, init_args: {lr: 0.01, weight_decay: 0.1}}
  lr_scheduler: WarmupCosine
trainer: {max_epochs: 60, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


def write(folder: Path, name: str, seed: int) -> tuple[list[int], list[int]]:
    """A table and its configuration; the rows for training, and those of the test."""
    data = DATA[name]
    kept, test = train_test_split(range(len(data.target)), test_size=0.35, stratify=data.target, random_state=seed)
    train, val = train_test_split(kept, test_size=0.15 / 0.65, stratify=data.target[kept], random_state=seed)
    split = {row: part for part, rows in {"train": train, "val": val, "test": test}.items() for row in rows}
    features = [str(feature).replace(" ", "_") for feature in data.feature_names]
    file = folder / f"{name}-{seed}.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*features, "class", "split"])
        for row, (values, label) in enumerate(zip(data.data, data.target, strict=True)):
            writer.writerow([*map(float, values), data.target_names[label], split[row]])
    config = CONFIG.replace("PATH", f"'{file.name}'").replace("FEATURES", str(features))
    (folder / f"{name}-{seed}.yaml").write_text(config)
    return train, test


def ours(folder: Path, name: str, seed: int) -> dict[str, float]:
    """The test figures of a run."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "fit",
        "--config",
        f"{name}-{seed}.yaml",
        "--seed_everything",
        str(seed),
    ]
    run = f"{name.replace(' ', '-')}-{seed}"
    threshold = ["--model.tasks.class.threshold", "balanced_accuracy"] if len(DATA[name].target_names) == 2 else []
    subprocess.run([*command, "--name", run, *threshold], cwd=folder, check=True, capture_output=True)
    results = json.loads((folder / "runs" / run / "version_0" / "results.json").read_text())
    recalls = [each["recall"] for each in results["classes"]["class"]["figures"].values()]
    return {"balanced_accuracy": statistics.mean(recalls)} | results["tasks"]["class"]


def theirs(name: str, train: list[int], test: list[int]) -> dict[str, float]:
    """Those of a logistic regression."""
    data = DATA[name]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(data.data[train], data.target[train])
    figures = {"balanced_accuracy": balanced_accuracy_score(data.target[test], model.predict(data.data[test]))}
    if len(data.target_names) == 2:
        figures["auroc"] = roc_auc_score(data.target[test], model.predict_proba(data.data[test])[:, 1])
    return figures


def main(folder: Path) -> None:
    """Train, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = Table("table", "figure", "fit", "logistic regression", "differences", title="test, in %")
    for name in DATA:
        pairs = []
        for seed in SEEDS:
            train, test = write(folder, name, seed)
            pairs.append((ours(folder, name, seed), theirs(name, train, test)))
        for quantity in pairs[0][1]:
            own, other = ([100 * each[quantity] for each in side] for side in zip(*pairs, strict=True))
            differences = ", ".join(f"{a - b:+.2f}" for a, b in zip(own, other, strict=True))
            table.add_row(name, quantity, f"{statistics.mean(own):.2f}", f"{statistics.mean(other):.2f}", differences)
    Console(width=110).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
