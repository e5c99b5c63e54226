"""What the README tells a newcomer to do works, word for word."""

import csv
import json
import re
from pathlib import Path

from conftest import ROOT, Train
from sklearn.datasets import load_wine

README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The README's code block in `language` that holds `containing`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_second_command_is_what_ci_runs() -> None:
    assert block("bash", "pytest").strip() in (ROOT / ".ci/run").read_text()


def test_own_data(train: Train, tmp_path: Path) -> None:
    wine = load_wine()
    others = wine.feature_names[1:]  # all but the alcohol
    names = ("Barolo", "Grignolino", "Barbera")
    with (tmp_path / "wine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "cultivar", "alcohol", *others])
        for number, (features, cultivar) in enumerate(zip(wine.data.tolist(), wine.target, strict=True)):
            split = ("train", "train", "train", "val", "test")[number % 5]
            measured = features[0] if number % 3 else ""
            writer.writerow([split, names[cultivar], measured, *features[1:]])
    (tmp_path / "wine.py").write_text(block("python", "class Wine"))
    (tmp_path / "wine.yaml").write_text(block("yaml", "name: wine"))
    train("fit", "--config", "wine.yaml")
    results = json.loads((tmp_path / "runs/wine/version_0/results.json").read_text())
    assert list(results["tasks"]) == ["cultivar", "alcohol"]
