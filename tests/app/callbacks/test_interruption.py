"""Ctrl-C and SIGTERM end a run after the current step, saved and resumable."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def last(tmp_path: Path, name: str) -> dict:
    return torch.load(tmp_path / f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)


def signal_at(when: dict) -> list[str]:
    return ["--trainer.callbacks+=spies.SignalAt", *(f"--trainer.callbacks.{key}={when[key]}" for key in when)]


@pytest.mark.parametrize(
    ("number", "options"),
    [
        pytest.param(signal.SIGINT, ["--data.num_workers", "1"], id="SIGINT to a group with a worker"),
        pytest.param(signal.SIGTERM, DDP, id="SIGTERM on one rank of two", marks=pytest.mark.slow),
    ],
)
def test_interrupted_run_saves_and_goes_on(
    train: Train, train_afresh: Train, tmp_path: Path, number: int, options: list[str]
) -> None:
    fit = ["fit", "--config", str(SMALL), "--data.sampling.batch_size", "8", "--trainer.accumulate_grad_batches", "2",
           *options]  # fmt: skip
    train(*fit, "--name", "whole")
    when = {"epoch": 1, "batch": 4, "number": int(number), "rank": int(options == DDP), "group": options != DDP}
    stopped = train_afresh if options == DDP else train  # Lightning's launcher ends ranks that others leave behind
    done = stopped(*fit, "--name", "stopped", *signal_at(when), code=130)
    folder = tmp_path / "runs/stopped/version_0"
    assert not (folder / "results.json").exists()
    assert "Stopped after step" in done.stdout + done.stderr
    assert "Stopped after step" in (folder / "log.txt").read_text()
    tags = [tag for file in folder.glob("events*") for tag in EventAccumulator(str(file)).Reload().summary_metadata]
    assert "_hparams_/session_start_info" in tags
    assert "_hparams_/session_end_info" not in tags
    an_epoch = last(tmp_path, "whole")["global_step"] // 4
    assert last(tmp_path, "stopped")["global_step"] == an_epoch + 3  # the step that micro-batch 4 is in has ended

    train(*fit, "--name", "stopped", "--ckpt_path", "last")
    for name, value in last(tmp_path, "whole")["state_dict"].items():
        found = last(tmp_path, "stopped")["state_dict"][name]
        assert torch.equal(value.nan_to_num(), found.nan_to_num()), name
    curves, expected = scalars(folder), scalars(tmp_path / "runs/whole/version_0")
    assert curves.keys() == expected.keys()
    assert all(dict(curves[tag]) == dict(points) for tag, points in expected.items())


@pytest.mark.parametrize("validation", ["1.0", "0"])
def test_interrupted_at_the_end_of_an_epoch_ends_it(train_here: Callable, tmp_path: Path, validation: str) -> None:
    fit = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "3", "--trainer.limit_val_batches", validation]
    train_here(*fit, "--name", "whole")
    with pytest.raises(SystemExit) as stopped:
        train_here(*fit, "--name", "stopped", *signal_at({"epoch": 1, "batch": 7, "number": int(signal.SIGINT)}))
    assert stopped.value.code == 130
    assert last(tmp_path, "stopped")["global_step"] == 16
    assert len(scalars(tmp_path / "runs/stopped/version_0")["loss/train/total"]) == 2
    train_here(*fit, "--name", "stopped", "--ckpt_path", "last")
    curves, expected = (scalars(tmp_path / f"runs/{name}/version_0") for name in ("stopped", "whole"))
    assert curves.keys() == expected.keys()
    assert all(dict(curves[tag]) == dict(points) for tag, points in expected.items())


def test_interrupted_at_the_last_step_is_not_tested(train: Train, tmp_path: Path) -> None:
    when = {"epoch": 3, "batch": 7, "number": int(signal.SIGINT), "late": True}
    train("fit", "--config", str(SMALL), *signal_at(when), code=130)
    assert last(tmp_path, "small")["global_step"] == 32
    assert not (tmp_path / "runs/small/version_0/results.json").exists()


def test_second_signal_stops_at_once(train: Train, tmp_path: Path) -> None:
    when = {"epoch": 1, "batch": 2, "number": int(signal.SIGINT), "times": 2}
    done = train("fit", "--config", str(SMALL), *signal_at(when), code=None)
    assert done.returncode not in (0, 130)
    assert last(tmp_path, "small")["global_step"] == 8  # the end of epoch 0: nothing was saved since
