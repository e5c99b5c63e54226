"""Runs that are killed and gone on with, and what they must equal: the run `whole`, which was not."""

from collections.abc import Callable
from pathlib import Path

import torch
from conftest import SMALL, Train, scalars, steps


def last(name: str) -> dict:
    return torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)


def fit(name: str, *options: str) -> list[str]:
    """Arguments of a run that writes its rows to the folder `name`."""
    Path(name).mkdir(exist_ok=True)
    spy = "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder", name
    return ["fit", "--config", str(SMALL), "--name", name, *options, *spy]


def killed_at(epoch: int, batch: int) -> list[str]:
    """Options that have a run killed by SIGKILL."""
    return ["--trainer.callbacks+=spies.SignalAt", f"--trainer.callbacks.epoch={epoch}",
            f"--trainer.callbacks.batch={batch}"]  # fmt: skip


def assert_same_run(epoch: int, batch: int, ranks: int = 1, stopped: str = "stopped", resumed: str = "resumed") -> None:
    """Run `stopped`, resumed at micro-batch `batch` of `epoch` in the folder `resumed`, equals `whole`."""
    expected, found = last("whole"), last(stopped)
    assert expected["global_step"] == found["global_step"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(value.nan_to_num(), found["state_dict"][name].nan_to_num()), name
    for rank in range(ranks):
        whole, before = steps(Path("whole"), rank), steps(Path(stopped), rank)
        after = [line for line in whole if (line["epoch"], line["batch"]) >= (epoch, batch)]
        assert after
        assert steps(Path(resumed), rank) == after
        assert before == whole[: len(before)]
    curves, others = scalars(Path("runs/whole/version_0")), scalars(Path(f"runs/{stopped}/version_0"))
    assert curves.keys() == others.keys()
    for tag, points in curves.items():  # what was written before the kill is there, what was lost is written again
        assert dict(points) == dict(others[tag]), tag


def kill_and_resume(train: Train, train_here: Callable, options: list[str], step: int, name: str = "") -> None:
    """Kill the run `whole`, 3 epochs of 8 steps, under way in `step`, and go on from the multiple of 3 before it."""
    stopped, resumed = f"stopped-{name}", f"resumed-{name}"
    epoch, batch = divmod(step, 8)
    train(*fit(stopped, *options, "--save_every_n_steps", "3", *killed_at(epoch, batch)), code=-9)
    saved = max(step // 3 * 3, epoch * 8)  # each epoch is saved at its end
    assert last(stopped)["global_step"] == saved
    train_here(*fit(resumed, *options, "--name", stopped, "--ckpt_path", "last"))
    assert_same_run(epoch, saved - epoch * 8, stopped=stopped, resumed=resumed)
