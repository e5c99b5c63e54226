"""Numbers that are not finite end a run in one line, and never reach a checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train

OVERFLOWING = "fit", "--config", str(SMALL), "--model.optimizer.init_args.lr", "1e30", "--trainer.max_epochs", "2"
TASKS = ("left", "right", "sum", "parity")


def finite(checkpoint: Path) -> bool:
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    return all(x.isfinite().all() for name, x in weights.items() if name.startswith("network."))


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("balancer", ["FixedWeights", "PCGrad", "NashMTL", "FAMO"])
def test_a_rate_that_overflows_ends_the_run(train_here: Callable, capfd: pytest.CaptureFixture, balancer: str) -> None:
    with pytest.raises(SystemExit) as ending:
        train_here(*OVERFLOWING, "--model.balancer", balancer, "--save_every_n_steps", "1", "--name", "run")
    assert ending.value.code == 2
    line = last_line(capfd.readouterr().err)
    assert line.startswith("error: step "), line
    assert "is not finite" in line
    assert "the gradient" in line or any(f"{task!r}" in line for task in TASKS)
    run = Path("runs/run/version_0")
    assert not (run / "results.json").exists()
    for checkpoint in (run / "checkpoints").iterdir():
        assert checkpoint.suffix == ".ckpt"
        assert finite(checkpoint), checkpoint


def test_the_beginning_is_kept_and_can_be_gone_on_from(train_here: Callable) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_here(*OVERFLOWING, "--name", "run")
    last = Path("runs/run/version_0/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 0
    assert finite(last)
    usual = [*OVERFLOWING, "--model.optimizer.init_args.lr", "0.003"]
    train_here(*usual, "--name", "run", "--ckpt_path", "last")
    train_here(*usual, "--name", "whole")
    weights, expected = (
        torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("run", "whole")
    )
    assert all(torch.equal(weights[name].nan_to_num(), x.nan_to_num()) for name, x in expected.items())


def test_all_ranks_stop(train: Train, tmp_path: Path) -> None:
    ranks = "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu"
    done = train(*OVERFLOWING, *ranks, "--name", "ranks", code=2)
    assert "error: step " in done.stderr
    assert all(finite(each) for each in (tmp_path / "runs/ranks/version_0/checkpoints").glob("*"))


def test_the_row_of_a_pixel_that_is_not_a_number_is_named(
    train_here: Callable, capfd: pytest.CaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "pixels.py").write_text(ITEMS)
    (tmp_path / "pixels.yaml").write_text(CONFIG)
    with pytest.raises(SystemExit) as ending:
        train_here("fit", "--config", "pixels.yaml")
    assert ending.value.code == 2
    line = last_line(capfd.readouterr().err)
    assert line.startswith("error: ")
    assert "row 4 of train" in line
    assert "finite" in line
    assert "found nan" in line


ITEMS = """
import torch
from torch.utils.data import Dataset

class Pixels(Dataset):
    def __init__(self, bad: int = -1) -> None:
        self.bad = bad
    def __len__(self) -> int:
        return 16
    def __getitem__(self, row: int):
        x = torch.full((1, 28, 28), float(row))
        if row == self.bad:
            x[0, 3, 3] = torch.nan
        return x, row % 2
"""
CONFIG = """
name: pixels
data:
  sources:
    pixels:
      class_path: TorchDataset
      init_args:
        train: {class_path: pixels.Pixels, init_args: {bad: 4}}
        val: {class_path: pixels.Pixels}
        test: {class_path: pixels.Pixels}
        targets: {odd: {class_path: Categorical, init_args: {classes: ["even", "odd"]}}}
  sampling: {class_path: Shared, init_args: {batch_size: 16}}
model:
  backbone: {class_path: LeNet, init_args: {widths: [2, 2], kernel_size: 3, padding: 1, features: 4}}
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false, enable_model_summary: false}
"""
