"""`trainer.callbacks` takes one in place of a list, however it is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL
from lightning.pytorch.callbacks import LearningRateMonitor
from test_mistakes import near, refused

FIT = ["fit", "--config", str(SMALL), "--trainer.fast_dev_run", "1"]
ONE = "{class_path: LearningRateMonitor, init_args: {logging_interval: epoch}}"
SAID = {
    "a file": (f"callbacks: {ONE}", []),
    "a list in a file": (f"callbacks: [{ONE}]", []),
    "the command line": ("", ["--trainer.callbacks", ONE]),
    "a list on the command line": ("", ["--trainer.callbacks", f"[{ONE}]"]),
    "a name": ("", ["--trainer.callbacks", "LearningRateMonitor", "--trainer.callbacks.logging_interval", "epoch"]),
    "keys": ("", ["--trainer.callbacks.class_path", "LearningRateMonitor",
                  "--trainer.callbacks.init_args.logging_interval", "epoch"]),
    "a file and its option": ("callbacks: {class_path: LearningRateMonitor}",
                              ["--trainer.callbacks.logging_interval", "epoch"]),
    "an added one": ("", ["--trainer.callbacks+", ONE]),
}  # fmt: skip


@pytest.mark.parametrize("how", SAID)
def test_one_callback(train_here: Callable, tmp_path: Path, how: str) -> None:
    text, arguments = SAID[how]
    (tmp_path / "more.yaml").write_text(f"trainer: {{{text}}}")
    trainer = train_here(*FIT, "--config", "more.yaml", *arguments).trainer
    (found,) = [each for each in trainer.callbacks if isinstance(each, LearningRateMonitor)]
    assert found.logging_interval == "epoch"


def test_one_more_beside_one_of_a_file(train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(f"trainer: {{callbacks: {ONE}}}")
    added = ["--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder", "."]
    trainer = train_here(*FIT, "--config", "more.yaml", *added).trainer
    names = [type(each).__name__ for each in trainer.callbacks]
    assert names.count("LearningRateMonitor") == names.count("RecordSteps") == 1


def test_what_is_written_of_one_repeats_the_run(train_here: Callable, tmp_path: Path) -> None:
    fit = ["--trainer.max_epochs", "1", "--trainer.callbacks", ONE, "--trainer.limit_test_batches", "0"]
    train_here("fit", "--config", str(SMALL), *fit)
    trainer = train_here("fit", "--config", "runs/small/version_0/config.yaml", "--name", "again").trainer
    assert sum(isinstance(each, LearningRateMonitor) for each in trainer.callbacks) == 1


def test_an_option_that_one_does_not_have(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    line = refused(train_here, capfd, *FIT, "--trainer.callbacks", ONE.replace("logging_interval", "interval"))
    assert line.startswith("error: trainer.callbacks: LearningRateMonitor has no option 'interval'")
    assert "logging_interval" in near(line)
