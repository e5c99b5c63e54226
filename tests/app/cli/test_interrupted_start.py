"""Ctrl-C before the first step ends in one line."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

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


def test_one_line_while_torch_loads(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(SMALL)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as started:
        while "libtorch" not in Path(f"/proc/{started.pid}/maps").read_text():
            assert started.poll() is None
            time.sleep(0.01)
        started.send_signal(signal.SIGINT)
        assert started.communicate()[1] == "error: interrupted before the first step\n"
    assert started.returncode == 130
    assert not (tmp_path / "runs").exists()
