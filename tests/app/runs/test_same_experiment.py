"""A run goes on as the experiment that it is, and in one process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL

OTHERS = {
    "seed_everything": ("--seed_everything", "7"),
    "monitor": ("--monitor", "loss/val/left"),
    "schedule": ("--schedule", "linear_probe"),
    "model.init_from": ("--model.init_from", "other.ckpt"),
    "model.optimizer": ("--model.optimizer", "SGD", "--model.optimizer.lr", "0.01"),
    "model.lr_scheduler": ("--model.lr_scheduler", "ConstantLR"),
    "model.balancer": ("--model.balancer", "PCGrad"),
    "model.sharing": ("--model.sharing", "IndependentNetworks"),
    "model.tasks": ("--model.tasks.sum.loss", "torch.nn.L1Loss", "--model.tasks.sum.loss.reduction", "none"),
    "data.sources": ("--data.sources.digits.init_args.train_pairs", "251"),
    "data.sampling": ("--data.sampling.batch_size", "16"),
    "trainer.limit_train_batches": ("--trainer.limit_train_batches", "3"),
}
FOUND = {  # what of it the line has
    "model.tasks": "sum torch.nn.L1Loss",
    "data.sources": "train ",
    "data.sampling": "Shared, 16 rows a step; ",
    "trainer.limit_train_batches": "3 steps an epoch",
}
ANYWAY = {  # whose state, if the old and the new have any, does not fit
    "seed_everything": ("--seed_everything", "7"),
    "model.optimizer": ("--model.optimizer", "torch.optim.RMSprop"),
    "model.lr_scheduler": (
        "--model.lr_scheduler",
        "torch.optim.lr_scheduler.StepLR",
        "--model.lr_scheduler.step_size",
        "1",
    ),
    "model.balancer": ("--model.balancer", "app.balancing.methods.uncertainty.UncertaintyWeighting"),
}
MAY_CHANGE = "--model.optimizer.init_args.lr", "0.001", "--trainer.log_every_n_steps", "2", "--trainer.max_epochs", "2"


def fit(epochs: int, *options: str) -> list[str]:
    return ["fit", "--config", str(SMALL), "--name", "run", "--trainer.max_epochs", str(epochs), *options]


def last_line(capfd: pytest.CaptureFixture) -> str:
    return capfd.readouterr().err.strip().splitlines()[-1]


def test_another_experiment_is_refused(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here(*fit(1))
    checkpoint = Path("runs/run/version_0/checkpoints/last.ckpt")
    before = checkpoint.read_bytes()
    for key, options in OTHERS.items():
        with pytest.raises(SystemExit) as ending:
            train_here(*fit(2, *options, "--ckpt_path", "last"))
        assert ending.value.code == 2
        line = last_line(capfd)
        assert line.startswith(f"error: {key}: must be "), line
        assert FOUND.get(key, options[1]) in line
        assert "--resume_anyway" in line
    assert checkpoint.read_bytes() == before
    train_here(*fit(2, *MAY_CHANGE, "--ckpt_path", "last"))
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("key", ["seed_everything", "model.optimizer", "model.lr_scheduler", "model.balancer"])
def test_what_is_lost_is_told(train_here: Callable, caplog: pytest.LogCaptureFixture, key: str) -> None:
    train_here(*fit(1))
    train_here(*fit(2, *ANYWAY[key], "--resume_anyway", "true", "--ckpt_path", "last"))
    (line,) = [line for line in caplog.messages if line.startswith("resume_anyway: ")]
    assert line.startswith(f"resume_anyway: {key}: {ANYWAY[key][1]} in place of ")
    assert torch.load("runs/run/version_0/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1


def test_a_starting_point_is_not_read_again(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here(*fit(1, "--name", "start"))
    start = Path("runs/start/version_0/checkpoints/last.ckpt")
    begun = ["--model.init_from", str(start)]
    train_here(*fit(1, *begun))
    start.unlink()
    train_here(*fit(2, *begun, "--ckpt_path", "last"))
    train_here(*fit(3, "--ckpt_path", "last"))
    train_here(*fit(4, *begun, "--ckpt_path", "last"))
    with pytest.raises(SystemExit, match="2"):
        train_here(*fit(5, "--model.init_from", "other.ckpt", "--ckpt_path", "last"))
    assert last_line(capfd).startswith(f"error: model.init_from: must be {start}, as in the checkpoint's run")


HOLD = """
import sys
from pathlib import Path
from app.runs import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_under_way_is_left_alone_until_its_process_is_killed(
    train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    train_here(*fit(1))
    command = [sys.executable, "-c", HOLD, "runs/run/version_0"]
    root = {"PYTHONPATH": str(SMALL.parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=root) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SystemExit) as ending:
            train_here(*fit(2, "--ckpt_path", "last"))
        assert ending.value.code == 2
        assert "one process at a time" in last_line(capfd)
        other.kill()
        other.wait()
    train_here(*fit(2, "--ckpt_path", "last"))
