"""One line for what is the user's fault, a traceback for what is ours."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

from app.cli.errors import Reporter, construct
from app.runs import best_values
from models.backbones import LeNet

FIT = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1"]
MINE = """
import torch
from torch import nn

class Broken(nn.Module):
    '''A loss that fails in the third step.'''

    steps = 0

    def forward(self, outputs, labels):
        self.steps += 1
        numbers = [1, 2]
        return nn.functional.cross_entropy(outputs, labels, reduction="none") * numbers[self.steps // 3]

class Never(nn.Module):
    def __init__(self):
        raise KeyError("colour")
"""


def refused(train_here: Callable, capfd: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ending:
        train_here(*FIT, *arguments)
    assert ending.value.code == 2
    return str(capfd.readouterr().err.splitlines()[-1])


def test_code_of_the_user_that_fails_under_way(
    train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    line = refused(train_here, capfd, "--model.tasks.left.loss", "mine.Broken", "--trainer.num_sanity_val_steps", "0")
    log = Path("runs/small/version_0/error.log")
    assert re.fullmatch(
        rf"error: Broken\.forward, \S+mine\.py:13: IndexError: list index out of range \(all of it: {log}\)", line
    ), line
    assert log.read_text().rstrip().endswith("IndexError: list index out of range")
    assert "Traceback" in log.read_text()


def test_code_of_the_user_that_fails_while_it_is_built(
    train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    line = refused(train_here, capfd, "--model.tasks.left.loss", "mine.Never")
    assert line.startswith("error: Never.__init__, ")
    assert "KeyError: 'colour'" in line


LIBRARIES = {
    "a strategy that there is not": (["--trainer.strategy", "foo"], "You selected an invalid strategy name"),
    "a validation after the epoch": (["--trainer.val_check_interval", "100000"], "`val_check_interval`"),
    "a loss of other classes": (
        ["--model.tasks.left.loss", "torch.nn.CrossEntropyLoss", "--model.tasks.left.loss.weight", "[1, 2]",
         "--model.tasks.left.loss.reduction", "none"],
        "model.tasks.left.loss: must take outputs (32, 10) and labels (32,), found CrossEntropyLoss, which raises",
    ),
    "a metric of other classes": (
        ["--model.tasks.sum.metrics", "{f1: {class_path: torchmetrics.classification.MulticlassF1Score, "
         "init_args: {num_classes: 3}}}"],
        "model.tasks.sum.metrics.f1: must take a target of kind Continuous, found MulticlassF1Score, which raises",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_a_library_refuses_of_the_configuration(
    name: str, train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options, words = LIBRARIES[name]
    line = refused(train_here, capfd, *options, "--trainer.num_sanity_val_steps", "0")
    assert line.startswith(f"error: {words}"), line
    assert name == "a loss of other classes" or not (tmp_path / "runs").exists()


OPTIMIZERS = {
    "SGD": (["--model.optimizer.lr", "-1"], "SGD: ValueError: Invalid learning rate: -1"),
    "torch.optim.Muon": ([], "Muon: ValueError: Muon only supports 2D parameters"),
    "torch.optim.LBFGS": ([], "LBFGS: ValueError: LBFGS doesn't support per-parameter options"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_that_cannot_be_is_refused_at_the_start_by_name(
    name: str, train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    options, words = OPTIMIZERS[name]
    line = refused(train_here, capfd, "--model.optimizer", name, *options)
    assert line.startswith(f"error: model.optimizer: {words}"), line


def test_an_optimizer_with_modes_is_refused(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """As those of the package schedulefree are."""
    (tmp_path / "free.py").write_text(
        "import torch\n\nclass ScheduleFree(torch.optim.SGD):\n    def train(self): ...\n    def eval(self): ...\n"
    )
    line = refused(train_here, capfd, "--model.optimizer", "free.ScheduleFree", "--model.optimizer.lr", "0.1")
    assert line == "error: model.optimizer: must have one mode for training and evaluation, found ScheduleFree"


def test_a_fault_of_ours_shows_its_traceback(tmp_path: Path) -> None:
    """Whatever it raises, and also where it is our class that the configuration names."""
    with pytest.raises(FileNotFoundError), Reporter().reporting():
        best_values(tmp_path)
    with pytest.raises(TypeError), Reporter().reporting():
        construct(LeNet, (1, 8, 8), widths=None)
