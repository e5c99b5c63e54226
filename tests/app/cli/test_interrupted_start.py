"""Ctrl-C before the first step ends in one line."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

PLACES = {
    "while data are built": "--data.sources={{late: {{class_path: asking.Data}}}}",
    "while the network is": "--model.sharing=asking.Sharing",
}
ASKING = f"""
import os, signal
from datamodules.sources import Digits
from models.sharing import HardSharing

def ask() -> None:
    os.kill(os.getpid(), signal.{signal.SIGINT.name})

class Data(Digits):
    def __init__(self) -> None:
        ask()
        super().__init__()

class Sharing(HardSharing):
    def __init__(self, *arguments, **options) -> None:
        ask()
        super().__init__(*arguments, **options)
"""


@pytest.mark.parametrize("place", PLACES)
def test_one_line(train_here: Callable, capfd: pytest.CaptureFixture, place: str) -> None:
    Path("asking.py").write_text(ASKING)
    with pytest.raises(SystemExit, match="130"):
        train_here("fit", "--config", str(SMALL), PLACES[place].format())
    assert capfd.readouterr().err.strip().splitlines()[-1] == "error: interrupted before the first step"
    assert not Path("runs").exists()
