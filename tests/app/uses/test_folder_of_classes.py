"""A labelled folder, a subfolder a class, on which a trained network is tested."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image
from rows import LENET, TRAINER

COLOURS = {"sky": (40, 90, 200), "sun": (220, 200, 30), "wood": (30, 120, 40)}


def draw(folder: Path, classes: list[str], each: int, seed: int) -> None:
    """Noisy images of a colour, whose names begin with their class."""
    random.seed(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            colour = [min(255, max(0, round(random.gauss(part, 40)))) for part in COLOURS.get(name, (120, 120, 120))]
            Image.new("RGB", (8, 8), tuple(colour)).save(folder / name / f"{name}{number}.png")


@pytest.fixture
def run(train_here: Callable) -> str:
    draw(Path("views"), [*COLOURS], 20, 0)
    config = {
        "name": "views",
        "data": {"sources": {"views": {"class_path": "Folder", "init_args": {"path": "views", "task": "place"}}},
                 "sampling": {"class_path": "Shared", "init_args": {"batch_size": 16}}},
        "model": {"backbone": LENET, "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.01}}},
        "trainer": TRAINER | {"max_epochs": 20},
    }  # fmt: skip
    Path("views.yaml").write_text(yaml.safe_dump(config))
    train_here("fit", "--config", "views.yaml")
    return "runs/views/version_0"


def test_folder_of_classes_is_tested(train_here: Callable, run: str, capfd: pytest.CaptureFixture) -> None:
    draw(Path("new"), ["sun", "wood"], 7, 1)
    capfd.readouterr()
    train_here("test", "--run", run, "--input", "new")
    printed = capfd.readouterr().out
    train_here("predict", "--run", run, "--input", "new")
    with (Path(run) / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [row["sample"].startswith(f"{row['place']}/") for row in rows]
    assert len(right) == 14
    assert sum(right) > 7
    assert f"{sum(right) / 14:.4f}" in next(line for line in printed.splitlines() if line.startswith("│ place"))
    assert "14 rows of new" in printed


def test_class_that_was_not_trained_is_told_of(train_here: Callable, run: str, capfd: pytest.CaptureFixture) -> None:
    draw(Path("new"), ["sun", "fog"], 3, 1)
    with pytest.warns(UserWarning, match="3 rows of classes that were not trained cannot be scored: fog"):
        train_here("test", "--run", run, "--input", "new")


def test_image_outside_of_a_class_is_refused(train_here: Callable, run: str, capfd: pytest.CaptureFixture) -> None:
    draw(Path("new"), ["sun"], 1, 1)
    Image.new("RGB", (8, 8)).save("new/lost.png")
    with pytest.raises(SystemExit):
        train_here("test", "--run", run, "--input", "new")
    expected = "error: input: an image must be in the folder of its class, found new/lost.png"
    assert capfd.readouterr().err.strip().splitlines()[-1] == expected
