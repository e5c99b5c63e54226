"""What the README tells a newcomer to do works, word for word."""

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Train
from PIL import Image

README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The README's code block in `language` that holds `containing`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_second_command_is_what_ci_runs() -> None:
    assert block("bash", "tests/run").strip() in (ROOT / ".ci/run").read_text()


SPECIES = {"heron": (60, 90, 200), "robin": (200, 60, 60), "thrush": (150, 120, 60), "wren": (60, 160, 60)}
WEIGHT = {"heron": 1500.0, "robin": 18.5, "thrush": 80.0, "wren": 9.5}


def write_birds(folder: Path, rows: int) -> None:
    """The README's table, continued to `rows` rows, and a JPEG for each: the species is its colour, a ring a frame."""
    lines = block("csv", "species").splitlines()
    draw = random.Random(0)
    (folder / "img").mkdir()
    for row in range(rows):
        if row + 1 < len(lines):
            _, species, ringed, *_ = lines[row + 1].split(",")
        else:
            species, ringed = draw.choice(list(SPECIES)), draw.choice(["no", "yes"])
            weight = f"{WEIGHT[species] * draw.uniform(0.95, 1.05):.1f}"
            habitat = draw.choice(["garden", "wood", "garden|wood", "water", "field|water"])
            shown = species if draw.random() > 0.3 else ""
            lines.append(f"img/{row:04}.jpg,{shown},{ringed},{weight},{habitat}")
        image = Image.new("RGB", (draw.randint(70, 90), 60), (240, 240, 240) if ringed == "yes" else (20, 20, 20))
        image.paste(SPECIES.get(species, (128, 128, 128)), (8, 8, image.width - 8, 52))
        image.save(folder / "img" / f"{row:04}.jpg")
    (folder / "birds.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("rows", [100, pytest.param(600, marks=pytest.mark.slow)])
def test_own_data(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture, rows: int) -> None:
    """Of 100 rows the network learns little, of 600 enough."""
    write_birds(tmp_path, rows)
    config = block("yaml", "name: birds")
    assert len(config.splitlines()) <= 25
    (tmp_path / "birds.yaml").write_text(config)
    commands = [line.split("#")[0].split()[2:] for line in block("bash", "predict --config birds").splitlines()]
    printed = []
    for command in commands:
        train_here(*command)
        printed.append(capfd.readouterr().out)
    assert (tmp_path / "runs/birds/data.png").is_file()
    for word in ("species", "Categorical", "wren", "MultiLabel", "Continuous", "g"):
        assert word in printed[0]
    results = json.loads((tmp_path / "runs/birds/version_0/results.json").read_text())["tasks"]
    assert list(results) == ["species", "ringed", "weight", "habitat"]
    assert results["species"]["accuracy"] > (0.7 if rows == 600 else 0)
    with (tmp_path / "runs/birds/version_0/predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == rows * 0.15
    right = 0
    for line in predictions:
        with Image.open(tmp_path / line["sample"]) as image:
            colour = image.getpixel((30, 30))
        nearest = min(SPECIES, key=lambda name: sum(abs(a - b) for a, b in zip(SPECIES[name], colour, strict=True)))
        right += line["species"] == nearest  # in the user's own names, at the row's own image
        assert line["ringed"] in ("no", "yes")
        assert set(line["habitat"].split("|")) <= {"", "field", "garden", "water", "wood"}
        assert float(line["weight (g)"])
    assert right > (60 if rows == 600 else 0)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORT = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"]
SHORTER = {
    "search": ["--search.trials", "1", "--search.folds.k", "2", *SHORT[:4]],
    "predict": ["--trainer.limit_predict_batches", "1"],
    "export": [],
    "branches": [],
}


ALONE = ("export", "branches")  # commands without a trainer


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `train.py` in the code blocks of a page that stands beside its `configs/`."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = [re.split("[#>]", line)[0].split() for block in blocks for line in block.splitlines()]
    return [line[2:] for line in lines if line[:2] == ["python", "train.py"]]


def test_pages_are_found_from_the_readme_and_have_an_end() -> None:
    assert len(README.splitlines()) <= 250
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
        assert page.name == "README.md" or f"docs/{page.name}" in README


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_each_command_runs(page: Path, train: Train, train_here: Callable, tmp_path: Path) -> None:
    """Of a page from its first to its last, with one batch in place of an epoch."""
    write_birds(tmp_path, 60)
    (tmp_path / "birds.yaml").write_text(block("yaml", "name: birds"))
    (tmp_path / "more.yaml").write_text("model: {tasks: {left: {weight: 2.0}}}\n")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for command in commands(page):
        if any("help" in word for word in command):
            with pytest.raises(SystemExit, match="0"):
                train_here(*command)
        else:
            runs = train if "--trainer.devices" in command else train_here
            runs(
                *command,
                *([] if command[0] in ALONE else ["--trainer.accelerator", "cpu"]),
                *SHORTER.get(command[0], SHORT),
            )


def test_the_example_in_python_runs_word_for_word(
    train_here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_birds(tmp_path, 60)
    (tmp_path / "birds.yaml").write_text(block("yaml", "name: birds"))
    train_here("fit", "--config", "birds.yaml", "--trainer.accelerator", "cpu", *SHORT, "--trainer.max_epochs", "1")
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/use.md").read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert len(names["predictions"]) == 60
    assert {"species", "ringed", "weight (g)", "habitat"} <= {*names["predictions"].columns}
    assert tuple(names["embeddings"].shape) == (2, 512)
