"""A run under a schedule, killed in each phase and gone on with, is never killed; the best of a phase comes back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars
from resuming import fit, kill_and_resume

TOP = "backbone.stage2, 'heads.*'"
BY_STEP_PLATEAU_AND_EPOCH = [
    "--schedule", f"[{{train: ['heads.*'], until_step: 5}}, {{train: [{TOP}], patience: 3, restore_best: true}},"
    f"{{train: [backbone.stage1, {TOP}], until_epoch: 2}}, {{train: ['*'], rates: {{'backbone.*': 0.5}}}}]",
    "--trainer.max_epochs", "3", "--trainer.val_check_interval", "2", "--monitor", "accuracy/val/right",
]  # fmt: skip


def test_run_killed_in_each_phase_goes_on(train: Train, train_here: Callable) -> None:
    train_here(*fit("whole", *BY_STEP_PLATEAU_AND_EPOCH))
    phases = dict(scalars(Path("runs/whole/version_0"))["phase/step"])
    begun = [min(step for step, phase in phases.items() if phase == number) for number in (1, 2, 3, 4)]
    assert begun == [0, 5, 12, 16]  # after 5 steps, after 3 validations no better than the first, and after 2 epochs
    for number, step in enumerate([4, 10, 15, 22], start=1):
        assert phases[step] == number
        kill_and_resume(train, train_here, BY_STEP_PLATEAU_AND_EPOCH, step, name=str(number))


def test_next_phase_starts_from_the_best_of_the_last(train_here: Callable) -> None:
    """What it does not train is then as it was at the best validation, with the optimizer's state of that step."""
    schedule = "[{train: ['*'], patience: 2, restore_best: true}, {train: ['heads.*']}]"
    cli = train_here(
        "fit", "--config", str(SMALL), "--schedule", schedule, "--model.optimizer.lr", "0.05",
        "--trainer.val_check_interval", "2", "--trainer.callbacks+=layer_spies.RecordLayers",
        "--trainer.callbacks.file", "layers.pt",
    )  # fmt: skip
    kept = torch.load("layers.pt")
    begun = next(step for step, line in enumerate(kept) if line["phase"] == 1)
    losses = dict(scalars(Path("runs/small/version_0"))["loss/val/total"])
    best = min((step for step in losses if step < begun), key=losses.__getitem__)
    assert best < begun - 3  # two validations before the phase ended
    parameters = cli.model.network.layers["backbone.stage0"]
    for parameter, then, at_the_end_of_the_phase in zip(
        parameters, kept[best]["parameters"]["backbone.stage0"], kept[begun - 1]["parameters"]["backbone.stage0"],
        strict=True,
    ):  # fmt: skip
        assert torch.equal(
            kept[-1]["parameters"]["backbone.stage0"][0], kept[begun]["parameters"]["backbone.stage0"][0]
        )
        assert not torch.equal(then, at_the_end_of_the_phase)
        assert cli.trainer.optimizers[0].state[parameter]["step"] == best + 1
    for layer in ("backbone.stage0", "backbone.stage1", "backbone.stage2"):
        for after, then in zip(kept[begun]["parameters"][layer], kept[best]["parameters"][layer], strict=True):
            assert torch.equal(after, then)


def test_checkpoint_of_a_longer_schedule_is_refused(train_here: Callable, capsys: pytest.CaptureFixture) -> None:
    small = ["fit", "--config", str(SMALL), "--schedule"]
    train_here(*small, "gradual_unfreeze", "--trainer.limit_val_batches", "0")
    with pytest.raises(SystemExit, match="2"):
        train_here(
            *small, "linear_probe", "--trainer.max_epochs", "6", "--ckpt_path", "last", "--resume_anyway", "true"
        )
    assert "schedule: the checkpoint is in phase 4, found 1 phases" in capsys.readouterr().err.splitlines()[-1]
