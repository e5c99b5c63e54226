"""A run goes on and is tested wherever its folder is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL


def fit(name: str, epochs: int, *options: str) -> list[str]:
    return ["fit", "--config", str(SMALL), "--name", name, "--trainer.max_epochs", str(epochs), *options]


def best(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/best.ckpt", weights_only=True)


def test_a_moved_run_keeps_its_best(train_here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worse = "--model.optimizer.init_args.lr", "10"  # from the second epoch on, so that the first remains the best
    train_here(*fit("run", 1))
    shutil.copytree("runs", "elsewhere/runs")
    train_here(*fit("run", 2, "--ckpt_path", "last", *worse))
    stayed = Path("runs/run/version_0").absolute()
    Path("runs").rename("old")
    stayed = Path("old/run/version_0").absolute()
    monkeypatch.chdir("elsewhere")
    train_here(*fit("run", 2, "--ckpt_path", "last", *worse))
    moved = Path("runs/run/version_0").absolute()
    assert best(moved)["epoch"] == best(stayed)["epoch"] == 0
    figures, expected = (json.loads((each / "results.json").read_text()) for each in (moved, stayed))
    assert figures == expected
    for name, weight in best(stayed)["state_dict"].items():
        assert torch.equal(best(moved)["state_dict"][name].nan_to_num(), weight.nan_to_num()), name


def test_no_path_of_the_machine_is_in_a_checkpoint(train_here: Callable, tmp_path: Path) -> None:
    train_here(*fit("run", 1))
    states = best(Path("runs/run/version_0"))["callbacks"]
    assert str(tmp_path) not in str(states)
