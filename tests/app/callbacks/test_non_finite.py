"""Numbers that are not finite end a run in one line, and never reach a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, slow_but

from app.callbacks import NonFinite

OVERFLOWING = "fit", "--config", str(SMALL), "--model.optimizer.init_args.lr", "1e30", "--trainer.max_epochs", "2"
TASKS = ("left", "right", "sum", "parity")


def finite(checkpoint: Path) -> bool:
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    return all(x.isfinite().all() for name, x in weights.items() if name.startswith("network."))


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


BALANCERS = ["FixedWeights", "PCGrad", "NashMTL", "FAMO"]


SCALER = {"class_path": "torch.amp.GradScaler", "init_args": {"device": "cpu"}}
MIXED = {"precision": "16-mixed", "device": "cpu", "scaler": SCALER}
FP16 = "--trainer.plugins", json.dumps([{"class_path": "lightning.pytorch.plugins.MixedPrecision", "init_args": MIXED}])
PRECISIONS = {
    "float32": (),
    "fp16": FP16,
    "fp16 on a GPU": ("--trainer.precision", "16-mixed", "--trainer.accelerator", "gpu"),
}


@pytest.mark.parametrize(
    "precision", [pytest.param(name, marks=pytest.mark.gpu) if "GPU" in name else name for name in PRECISIONS]
)
@pytest.mark.parametrize("balancer", BALANCERS)
def test_a_rate_that_overflows_ends_the_run(
    train_here: Callable, capfd: pytest.CaptureFixture, balancer: str, precision: str
) -> None:
    saved = "--save_every_n_steps", "1", "--name", "run"
    with pytest.raises(SystemExit) as ending:
        train_here(*OVERFLOWING, *PRECISIONS[precision], "--model.balancer", balancer, *saved)
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


@pytest.mark.parametrize("precision", slow_but(["float32", "fp16"], "float32"))
@pytest.mark.parametrize("balancer", slow_but(BALANCERS, "FixedWeights"))
def test_all_ranks_stop(train: Train, tmp_path: Path, balancer: str, precision: str) -> None:
    ranks = "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu"
    done = train(*OVERFLOWING, *ranks, *PRECISIONS[precision], "--model.balancer", balancer, "--name", "ranks", code=2)
    assert "error: step " in done.stderr
    assert all(finite(each) for each in (tmp_path / "runs/ranks/version_0/checkpoints").glob("*"))


@pytest.mark.gpu
def test_nothing_waits_for_a_step_to_be_watched(train_here: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its hooks whatever waits for the device is an error."""

    def strictly(hook: Callable) -> Callable:
        def watched(*arguments: object) -> None:
            torch.cuda.set_sync_debug_mode("error")
            try:
                hook(*arguments)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return watched

    for name in ("on_before_optimizer_step", "on_train_batch_end"):
        monkeypatch.setattr(NonFinite, name, strictly(getattr(NonFinite, name)))
    train_here("fit", "--config", str(SMALL), "--trainer.accelerator", "gpu", "--trainer.max_epochs", "1")


NO_EPSILON = "{class_path: AdamW, init_args: {eps: 0.0}}"  # 0 / 0 for the weights of pixels that are always black
MLP = "{class_path: MLP, init_args: {hidden: [8]}}"


def test_weights_that_the_last_step_spoiled_are_not_saved(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    """No later loss shows it."""
    spoiling = "--model.optimizer", NO_EPSILON, "--model.backbone", MLP, "--trainer.max_steps", "1"
    with pytest.raises(SystemExit, match="2"):
        train_here("fit", "--config", str(SMALL), *spoiling, "--name", "run")
    assert last_line(capfd.readouterr().err).startswith("error: step 1: the weight 'sharing.backbone.")
    run = Path("runs/run/version_0")
    assert not (run / "results.json").exists()
    (last,) = (run / "checkpoints").iterdir()
    assert torch.load(last, weights_only=True)["global_step"] == 0
    assert finite(last)


def test_a_curve_that_is_not_finite_is_told_of_once(train_here: Callable) -> None:
    """As a correlation over one row is, which ends nothing."""
    pearson = "--model.tasks.sum.metrics", "{r: {class_path: torchmetrics.PearsonCorrCoef}}"
    undefined = *pearson, "--data.sources.digits.init_args.val_pairs", "1", "--trainer.limit_train_batches", "1"
    with pytest.warns(UserWarning, match=r"^step 1: r/val/sum is nan$") as warned:
        train_here("fit", "--config", str(SMALL), *undefined, "--trainer.max_epochs", "3")
    assert sum("r/val/sum is nan" in str(each.message) for each in warned) == 1
    assert (Path("runs/small/version_0/results.json")).is_file()


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
