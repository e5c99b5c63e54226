"""Killed and resumed is never killed."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars, steps


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--data.num_workers", "2"],
        ["--trainer.max_steps", "30", "--trainer.accumulate_grad_batches", "3"],
        [
            "--model.lr_scheduler",
            "torch.optim.lr_scheduler.ReduceLROnPlateau",
            "--model.lr_scheduler.patience",
            "0",
            "--model.lr_scheduler.threshold",
            "0.5",
        ],
    ],
    ids=["plain", "workers", "max_steps", "plateau"],
)
def test_killed_run_ends_like_an_uninterrupted_one(
    train: Train, tmp_path: Path, options: list[str], request: pytest.FixtureRequest
) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    fit = ["fit", "--config", str(SMALL), *options]
    spy = "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder"
    train(*fit, "--name", "whole", *spy, str(tmp_path / "whole"))
    kill = "--trainer.callbacks+=spies.SignalAt", "--trainer.callbacks.epoch", "2", "--trainer.callbacks.batch", "3"
    train(*fit, "--name", "killed", *kill, code=-9)
    train(*fit, "--name", "killed", "--ckpt_path", "last", *spy, str(tmp_path / "killed"))

    whole, killed = tmp_path / "runs/whole/version_0", tmp_path / "runs/killed/version_0"
    assert [folder.name for folder in killed.parent.iterdir()] == ["version_0"]
    expected, found = last(whole), last(killed)
    assert expected["global_step"] == found["global_step"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][name]), name
    assert steps(tmp_path / "killed") == [line for line in steps(tmp_path / "whole") if line["epoch"] >= 2]
    if "plateau" in request.node.name:
        assert len({rate for _, rate in scalars(whole)["lr/step/shared"]}) > 2  # it fell, before the kill and after it
    resumed_at = 1 + max(step for step, _ in scalars(killed)["loss/val/left"][:2])
    logged = scalars(killed)
    for tag, points in scalars(whole).items():
        after = [point for point in points if point[0] > resumed_at]
        assert after == [point for point in logged[tag] if point[0] > resumed_at][-len(after) :], tag
