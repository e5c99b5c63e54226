"""What a training says: on a terminal, in a file, and in its log."""

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, scalars

from app.runs import LOG

FIT = ["fit", "--config", str(SMALL), "--trainer.enable_progress_bar", "null", "--trainer.max_epochs", "2"]
EPOCH = r"^epochs {}/2 · left accuracy "


def lines_of(text: str) -> list[str]:
    """As a terminal shows them: what a carriage return is followed by stands in place of what was there."""
    return [re.sub(r"\x1b\[[A-Z]", "", line).rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]


def test_terminal_has_a_bar_and_whole_lines(tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 200))
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *FIT], cwd=tmp_path, stdout=inside, stderr=inside, stdin=inside
    )
    os.close(inside)
    text = b""
    while part := _read(terminal):
        text += part
    assert process.wait() == 0
    shown = text.decode()
    assert re.search(r"Epoch 1: .*left=", shown)
    for epoch in (1, 2):
        assert any(re.match(EPOCH.format(epoch), line) for line in lines_of(shown))


def _read(terminal: int) -> bytes:
    """What is written next; nothing at the end, which Linux calls an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_file_has_no_bar_and_the_log_has_it_all(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here(*FIT, "--model.lr_scheduler.warmup_steps", "30", "--schedule", "linear_probe")
    printed = capfd.readouterr()
    assert "\r" not in printed.out + printed.err
    assert all(re.search(EPOCH.format(epoch), printed.out, re.MULTILINE) for epoch in (1, 2))
    log = (Path("runs/small/version_0") / LOG).read_text()
    said = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ?(.*)", line) for line in log.splitlines()]
    assert all(said)
    told = [each[1] for each in said if each]
    assert [line for line in printed.out.splitlines() if line.rstrip() not in told] == []
    assert any(re.match(r"warning: the run ends after 16 steps", line) for line in told)
    assert any("phase 1 of 1 'heads'" in line for line in told)
    for advert in ("Tip:", "litlogger", "TPU", "LeafSpec", "callbacks used to create"):
        assert advert not in printed.out + printed.err + log


def test_run_that_goes_on_adds_to_its_log_and_knows_its_best(train_here: Callable) -> None:
    train_here(*FIT, "--trainer.max_epochs", "1", "--model.lr_scheduler", "null")
    train_here(*FIT, "--ckpt_path", "last", "--model.optimizer.lr", "10", "--model.lr_scheduler", "null")
    log = (Path("runs/small/version_0") / LOG).read_text()
    assert re.search(r"epochs 1/1 .* \(best\)", log)
    assert re.search(r"epochs 2/2 .* \(best [\d.]+ after 1\)", log)


def test_error_in_the_middle_of_a_run_is_in_its_log(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train_here(*FIT, "--model.optimizer.lr", "1e30", "--model.lr_scheduler", "null", "--nan_patience", "1")
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert (Path("runs/small/version_0") / LOG).read_text().strip().endswith(last)


def test_without_validation_a_line_has_the_mean_training_losses(train_here: Callable) -> None:
    train_here(*FIT, "--trainer.limit_val_batches", "0")
    folder = Path("runs/small/version_0")
    losses = r" · ".join(rf"{task} loss (\S+)" for task in ("left", "right", "sum", "parity"))
    (shown,) = re.findall(rf"epochs 2/2 · {losses} · \S+ s$", (folder / LOG).read_text(), re.MULTILINE)
    logged = scalars(folder)
    assert [*shown] == [f"{logged[f'loss/train/{task}'][-1][1]:.4f}" for task in ("left", "right", "sum", "parity")]


def test_dry_run_leaves_nothing(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here(*FIT, "--trainer.fast_dev_run", "1")
    assert "train.py predict" not in capfd.readouterr().out
    assert not Path("runs").exists()
