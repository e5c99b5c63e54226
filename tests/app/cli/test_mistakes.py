"""A name that there is not ends in one line, which says what is near it and would do."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

from models.errors import near_it

TIMM = ["--model.backbone", "TimmBackbone", "--model.backbone.name"]
NESTED = ["--model.backbone", "Projected", "--model.backbone.backbone"]
ON_THE_COMMAND_LINE = {  # what is typed → the key, and what is near it
    "a balancer": (["--model.balancer", "PCgrad"], "model.balancer", "PCGrad"),
    "an optimizer": (["--model.optimizer", "Adamw"], "model.optimizer", "AdamW"),
    "a source": (["--data.sources.t", "Tabel"], "data.sources", "Table"),
    "a source of several": (["--data.sources", "{t: {class_path: Tabel}}"], "data.sources", "Table"),
    "a path": (["--model.sharing", "models.sharing.HardSharng"], "model.sharing", "HardSharing"),
    "a module": (["--model.sharing", "model.sharing.HardSharing"], "model.sharing", "HardSharing"),
    "a backbone in another": ([*NESTED, "LeNett"], "model.backbone.backbone", "LeNet"),
    "a loss of a task": (["--model.tasks.left.loss", "CrosEntropyLoss"], "model.tasks.loss", "CrossEntropyLoss"),
    "a callback of a list": (["--trainer.callbacks", "[ModelSumary]"], "trainer.callbacks", "ModelSummary"),
    "a schedule": (["--schedule", "gradual"], "schedule", "gradual_unfreeze"),
    "a schedule with options": (["--schedule", "{preset: gradual}"], "schedule.preset", "gradual_unfreeze"),
    "a class in place of a word": (["--data.transform", "TimTransforms"], "data.transform", "TimmTransforms"),
    "a word in place of a class": (["--data.transform", "tim"], "data.transform", "timm"),
    "a word": (["--data.on_error", "skp"], "data.on_error", "skip"),
    "a word of a group": (["--model.gradients.level", "feature"], "model.gradients.level", "features"),
    "a network of timm": ([*TIMM, "resnet10"], "backbone.name", "resnet10t"),
    "an option of a class": (["--model.backbone.width", "[3]"], "model.backbone", "widths"),
    "an option of an optimizer": (["--model.optimizer.weight", "1"], "model.optimizer", "weight_decay"),
    "an option of a task": (["--model.tasks.left.wait", "1"], "model.tasks", "weight"),
    "an option of a preset": (["--schedule", "{preset: full, epoch: [3]}"], "schedule", "epochs"),
}  # fmt: skip
IN_A_FILE = {
    "a key": ("model: {backbon: LeNet}", "model.backbon", "model.backbone"),
    "a group": ("modell: {optimizer: AdamW}", "modell.optimizer", "model.optimizer"),
    "a key of a class": ("model: {balancing: {class_path: PCGrad}}", "model.balancing.class_path", "model.balancer"),
    "a key of a group": ("model: {gradients: {leve: features}}", "model.gradients.leve", "model.gradients.level"),
    "a class": ("data: {sources: {t: {class_path: Tabel, init_args: {path: x.csv}}}}", "data.sources", "Table"),
    "an option": ("data: {sources: {t: {class_path: Table, init_args: {pth: x.csv}}}}", "data.sources", "path"),
}


def refused(train_here: Callable, capfd: pytest.CaptureFixture, *arguments: str) -> str:
    """The only line that is printed, without the notices of what is imported."""
    with pytest.raises(SystemExit) as ending:
        train_here(*arguments)
    assert ending.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return str(lines[0])


def near(line: str) -> list[str]:
    """The names that a line ends with."""
    found = line.split("; near it: ")[1].split(", ")
    assert len(found) <= 3
    return found


@pytest.mark.parametrize("case", ON_THE_COMMAND_LINE)
def test_on_the_command_line(train_here: Callable, capfd: pytest.CaptureFixture, case: str) -> None:
    arguments, key, name = ON_THE_COMMAND_LINE[case]
    line = refused(train_here, capfd, "fit", "--config", str(SMALL), *arguments)
    assert line.startswith(f"error: {key}: "), line
    assert name in near(line)


@pytest.mark.parametrize("case", IN_A_FILE)
def test_in_a_file(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture, case: str) -> None:
    text, key, name = IN_A_FILE[case]
    (tmp_path / "more.yaml").write_text(text)
    line = refused(train_here, capfd, "fit", "--config", str(SMALL), "--config", "more.yaml")
    assert line.startswith(f"error: {key}: "), line
    assert name in near(line)


def test_a_command(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    line = refused(train_here, capfd, "fitt", "--config", str(SMALL))
    assert re.fullmatch(r"error: the command: must be .* or validate, found fitt; near it: fit", line), line


def test_what_is_no_option_is_not_near(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    """The network's first argument comes from the data, and some keys do from others."""
    line = refused(train_here, capfd, "fit", "--config", str(SMALL), "--model.backbone.input_shap", "[1]")
    assert line == "error: model.backbone: LeNet has no option 'input_shap'"
    line = refused(train_here, capfd, "fit", "--config", str(SMALL), "--model.target", "{}")
    assert "model.targets" not in near(line)


def test_where_nothing_is_near_nothing_is_said(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    line = refused(train_here, capfd, "fit", "--config", str(SMALL), "--schedule", "xyz")
    assert line.endswith("surgical or the name or path of a class, found xyz")
    assert near_it("", ["a", "b"]) == near_it("a", []) == ""


def test_what_begins_so_is_near_and_case_is_none() -> None:
    assert near_it("pcGRAD", ["PCGrad", "MGDA"]) == "; near it: PCGrad"
    assert near_it("grad", ["gradual_unfreeze", "full"]) == "; near it: gradual_unfreeze"
    assert near_it("aaa", ["aaab", "aaac", "aaad", "aaae"]).count(",") == 2
