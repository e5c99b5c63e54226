"""Killed and resumed is never killed."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Train, scalars, slow_but, steps
from pictures import Pictures, cut
from resuming import assert_same_run, fit, kill_and_resume, killed_at, last

PLATEAU = [
    "--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience", "0",
    "--model.lr_scheduler.threshold", "0.5",
]  # fmt: skip
WINDOWS = ["--data.sampling.batch_size", "8", "--trainer.accumulate_grad_batches", "2"]  # 16 steps an epoch
DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--model.backbone.init_args.dropout", "0"]
GLOBAL = [  # what several processes do exactly as one does
    "--data.sampling.batch_size", "null", "--data.sampling.global_batch_size", "32", "--model.lr_scheduler", "null",
    "--trainer.accumulate_grad_batches", "2", "--trainer.precision", "64-true",
    "--model.backbone.init_args.dropout", "0",
]  # fmt: skip
OTHER_STEPS = {
    "data.sampling": ["--data.sampling.global_batch_size", "64"],
    "trainer.accumulate_grad_batches": ["--trainer.accumulate_grad_batches", "1"],
}
AUROC = ["--model.tasks.parity.metrics", "{auroc: {class_path: torchmetrics.classification.BinaryAUROC}}"]
PARTIAL = ["--data.sources", "{partial: {class_path: partial.PartialDigits}}", "--data.sampling.batch_size", "16"]
PER_TASK = ["--data.sampling", "PerTask", "--data.sampling.epoch_length", "8", "--data.sampling.batch_size"]
QUARTERS = "{left: 0.25, right: 0.25, sum: 0.1, parity: 0.4}"
STRATEGIES = {
    "shared": [],
    "uniform": [*PER_TASK, "16"],
    "proportional": [*PARTIAL, *PER_TASK, "8", "--data.sampling.probabilities", "proportional",
                     "--data.sampling.temperature", "1.5"],
    "probabilities": [*PER_TASK, "8", "--data.sampling.probabilities", QUARTERS],
    "some tasks": [*PER_TASK, "16", "--data.sampling.probabilities", QUARTERS, "--data.sampling.tasks_per_step", "2"],
    "round robin": [*PER_TASK, "16", "--data.sampling.round_robin", "true"],
    "periods": [*PER_TASK, "{left: 4, right: 8, sum: 16, parity: 32}", "--data.sampling.periods", "{sum: 3, left: 2}"],
}  # fmt: skip
BALANCING = ROOT / "configs" / "balancing"
METHODS = {  # those with state of their own, or that draw random numbers
    name: ["--config", str(BALANCING / f"{name}.yaml")]
    for name in ("uncertainty", "dwa", "famo", "gradnorm", "exponentiated_gradient", "gradvac", "graddrop", "cagrad")
}
METHODS["cagrad"] += ["--model.gradients.every", "5"]  # between its steps the weights are held
SHARING = {
    "cross-stitch": ["--model.sharing", "CrossStitch", "--schedule", "gradual_unfreeze"],
    "ple": ["--model.sharing", "PLE", "--model.sharing.levels", "[0, 1]", "--trainer.callbacks+=EMA"],
    "soft": ["--model.sharing", "SoftSharing", "--model.sharing.strength", "0.1"],
    "mtan": ["--model.sharing", "MTAN", "--model.backbone", "residual.Residual"],
    "sluice": ["--model.sharing", "Sluice", "--model.sharing.strength", "0.1"],
    "factorised": ["--model.sharing", "TensorFactorisation", "--model.sharing.from_stage", "1"],
}
FLOAT64 = ["--trainer.precision", "64-true"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="plain", marks=pytest.mark.slow),
        pytest.param(["--data.num_workers", "2"], id="workers"),
        pytest.param(
            ["--trainer.max_steps", "30", "--trainer.accumulate_grad_batches", "3"],
            id="max_steps",
            marks=pytest.mark.slow,
        ),
        pytest.param(PLATEAU, id="plateau"),
        *(pytest.param(each, id=name, marks=pytest.mark.slow) for name, each in SHARING.items()),
    ],
)
def test_killed_run_goes_on_from_the_end_of_an_epoch(
    train: Train, train_here: Callable, options: list[str], request: pytest.FixtureRequest
) -> None:
    train_here(*fit("whole", *options))
    train(*fit("stopped", *options, *killed_at(2, 2)), code=-9)
    train_here(*fit("resumed", *options, "--name", "stopped", "--ckpt_path", "last"))
    assert_same_run(epoch=2, batch=0)
    if "plateau" in request.node.name:  # it fell, before the kill and after it
        assert len({rate for _, rate in scalars(Path("runs/whole/version_0"))["lr/step/backbone.stage0"]}) > 2


@pytest.mark.parametrize("strategy", slow_but(STRATEGIES, "proportional", "some tasks"))
def test_killed_run_draws_the_same_rows_with_workers_that_run_ahead_and_without(
    train: Train, train_here: Callable, strategy: str
) -> None:
    options, arbitrary = [*STRATEGIES[strategy], "--trainer.max_epochs", "3"], random.Random(strategy)
    train_here(*fit("whole", *options))
    for workers in ("0", "2"):
        ahead = [*options, "--data.num_workers", workers]
        kill_and_resume(train, train_here, ahead, arbitrary.randrange(3, 24), name=workers)


@pytest.mark.parametrize("method", slow_but(METHODS, "famo", "cagrad"))
def test_killed_run_weighs_the_tasks_alike(train: Train, train_here: Callable, method: str) -> None:
    options = [*METHODS[method], "--trainer.max_epochs", "3"]
    train_here(*fit("whole", *options))
    second_epoch = range(9, 16)  # where means over epochs are under way
    kill_and_resume(train, train_here, options, random.Random(method).choice(second_epoch))


@pytest.mark.parametrize("workers", slow_but(["0", "2"], "2"))
def test_killed_run_goes_on_in_mid_window(train: Train, train_here: Callable, workers: str) -> None:
    options = [*WINDOWS, "--data.num_workers", workers]
    train_here(*fit("whole", *options))
    train(*fit("stopped", *options, "--save_every_n_steps", "5", *killed_at(1, 23)), code=-9)
    assert last("stopped")["global_step"] == 25  # 9 steps, so 18 micro-batches of 32, into the second epoch
    train_here(*fit("resumed", *options, "--name", "stopped", "--ckpt_path", "last"))
    assert_same_run(epoch=1, batch=18)


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ([*PARTIAL, *FLOAT64, *AUROC], 12),
        pytest.param(["--trainer.val_check_interval", "4", *PLATEAU], 13, marks=pytest.mark.slow),
        pytest.param(
            ["--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "6"],
            13,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["partial labels and kept predictions", "validation in mid-epoch", "validation across epochs"],
)
def test_killed_run_goes_on_in_mid_epoch(train: Train, train_here: Callable, options: list[str], saved: int) -> None:
    train_here(*fit("whole", *options))
    train(*fit("stopped", *options, "--save_every_n_steps", "4", *killed_at(1, 6)), code=-9)
    assert last("stopped")["global_step"] == saved
    train_here(*fit("resumed", *options, "--name", "stopped", "--ckpt_path", "last"))
    assert_same_run(epoch=1, batch=saved - 8)


def test_killed_run_of_two_ranks_goes_on_in_mid_epoch_with_two_and_with_one(
    train: Train, train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    several = [*GLOBAL, *DDP, "--trainer.max_epochs", "3"]
    train(*fit("whole", *several))
    train(*fit("stopped", *several, "--save_every_n_steps", "3", *killed_at(1, 11)), code=None)
    checkpoint = last("stopped")
    assert checkpoint["global_step"] == 12  # 4 of 8 steps into the second epoch
    train(*fit("resumed", *several, "--name", "stopped", "--ckpt_path", "last"))
    assert_same_run(epoch=1, batch=8, ranks=2)

    torch.save(checkpoint, "two.ckpt")
    alone = [*GLOBAL, "--trainer.max_epochs", "3"]
    train_here(*fit("alone", *alone, "--ckpt_path", "two.ckpt"))
    assert_close("alone")
    found, expected = (scalars(Path(f"runs/{name}/version_0")) for name in ("alone", "whole"))
    for tag in (tag for tag in expected if "/train/" in tag):  # no rows of either rank are forgotten
        assert found[tag] == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected[tag][1:]], tag

    for key, options in OTHER_STEPS.items():
        with pytest.raises(SystemExit, match="2"):
            train_here(*fit("other", *alone, *options, "--ckpt_path", "two.ckpt"))
        assert capfd.readouterr().err.splitlines()[-1].startswith(f"error: {key}: must be ")


def test_run_of_one_process_goes_on_with_two(train: Train, train_here: Callable) -> None:
    train_here(*fit("whole", *GLOBAL, "--trainer.max_epochs", "2"))
    train_here(*fit("begun", *GLOBAL, "--trainer.max_epochs", "1"))
    unaccumulated = ["--trainer.accumulate_grad_batches", "1"]
    two = [*GLOBAL, *DDP, "--trainer.max_epochs", "2", *unaccumulated, "--name", "begun"]
    train(*fit("two", *two, "--ckpt_path", "last"))
    assert_close("begun")


def assert_close(name: str) -> None:
    """A run ends where the run `whole` does."""
    expected, found = last("whole"), last(name)
    assert expected["global_step"] == found["global_step"]
    for key, value in expected["state_dict"].items():
        assert (value - found["state_dict"][key]).nan_to_num().abs().max() <= 1e-9, key


def test_run_goes_on_from_its_best_checkpoint_before_the_end_of_an_epoch(train_here: Callable) -> None:
    constant = ["--model.lr_scheduler", "null"]  # not of the run's length
    train_here(*fit("whole", *constant, "--trainer.max_epochs", "3"))
    train_here(*fit("stopped", *constant, "--trainer.max_epochs", "2"))
    best = torch.load("runs/stopped/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 16
    train_here(*fit("resumed", *constant, "--name", "stopped", "--trainer.max_epochs", "3", "--ckpt_path", "best"))
    found, expected = (scalars(Path(f"runs/{name}/version_0")) for name in ("stopped", "whole"))
    for tag in (tag for tag in expected if "/train/" in tag):
        assert dict(found[tag]) == dict(expected[tag]), tag


PICTURES = [
    "--data.sources", "{pictures: {class_path: pictures.Pictures}}", "--data.sampling.batch_size", "16",
    "--trainer.max_epochs", "2",
]  # fmt: skip


@pytest.mark.parametrize("workers", slow_but(["0", "1"], "1"))
def test_row_that_cannot_be_read_costs_no_step(
    train_here: Callable, capfd: pytest.CaptureFixture, workers: str
) -> None:
    Pictures().write()
    options = [*PICTURES, "--data.num_workers", workers]
    train_here(*fit("whole", *options))
    broken = f"pictures/train/{steps(Path('whole'))[3]['rows'][5]}.png"
    content = cut(broken)
    with pytest.raises(SystemExit, match="2"):
        train_here(*fit("stopped", *options))
    message = capfd.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: {broken.removeprefix('pictures/')}: {broken} must be a whole image, found: ")
    assert last("stopped")["global_step"] == 3
    Path(broken).write_bytes(content)
    train_here(*fit("resumed", *options, "--name", "stopped", "--ckpt_path", "last"))
    assert_same_run(epoch=0, batch=3)


def test_nothing_is_saved_in_the_middle_of_a_window(train_here: Callable) -> None:
    Pictures().write()
    options = [*PICTURES, "--trainer.accumulate_grad_batches", "2"]
    train_here(*fit("whole", *options))
    cut(f"pictures/train/{steps(Path('whole'))[3]['rows'][5]}.png")
    with pytest.raises(SystemExit, match="2"):
        train_here(*fit("stopped", *options))
    assert last("stopped")["global_step"] == 0  # of the beginning
