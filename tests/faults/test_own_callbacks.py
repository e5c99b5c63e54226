"""What a callback of the user's own raises, or an exit in it, ends the run in one line that says where."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

CALLBACKS = """
import sys
from lightning.pytorch import Callback

class Exits(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 1:
            sys.exit(3)

class Raises(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 1:
            raise RuntimeError("mine")

class Late(Callback):
    def on_test_start(self, trainer, pl_module):
        raise RuntimeError("at the test")
"""
RAISED = {
    "Exits": "on_train_batch_start, {file}:8: must not end the program, found an exit with 3",
    "Raises": "on_train_batch_start, {file}:13: RuntimeError: mine",
    "Late": "on_test_start, {file}:17: RuntimeError: at the test",
}


@pytest.mark.parametrize("name", RAISED)
def test_one_line(train_here: Callable, capfd: pytest.CaptureFixture, tmp_path: Path, name: str) -> None:
    file, run = tmp_path / "callbacks.py", Path("runs/small/version_0")
    file.write_text(CALLBACKS)
    with pytest.raises(SystemExit, match="2"):
        train_here(
            "fit", "--config", str(SMALL), "--trainer.callbacks", f"callbacks.{name}", "--trainer.max_epochs", "1"
        )
    error = capfd.readouterr().err
    raised = RAISED[name].format(file=file)
    assert error.strip().splitlines()[-1] == f"error: {name}.{raised} (all of it: {run}/error.log)"
    assert "Traceback" not in error
    if name == "Late":
        assert json.loads((run / "results.json").read_text())["best"]["loss/val/total"] > 0
