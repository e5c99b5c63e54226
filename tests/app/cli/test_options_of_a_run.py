"""What the options of a run do."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, scalars


def test_run_goes_to_its_folder_without_a_logger_too(train_here: Callable, tmp_path: Path) -> None:
    for _ in range(2):
        train_here("fit", "--config", str(SMALL), "--trainer.logger", "false", "--trainer.limit_val_batches", "0")
    for version in ("version_0", "version_1"):
        folder = tmp_path / "runs/small" / version
        assert json.loads((folder / "results.json").read_text())["checkpoint"] == "checkpoints/last.ckpt"
        assert (folder / "config.yaml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("scheduler", [[], ["--model.lr_scheduler", "null"]], ids=["scheduled", "constant"])
def test_configuration_wins_when_a_run_goes_on(train_here: Callable, tmp_path: Path, scheduler: list[str]) -> None:
    fit = ["fit", "--config", str(SMALL), *scheduler, "--model.tasks.left.class_weights"]
    train_here(*fit, "[1,1,1,1,1,1,1,1,1,1]", "--trainer.max_epochs", "1")
    cli = train_here(
        *fit, "[2,2,2,2,2,2,2,2,2,2]", "--ckpt_path", "last", "--trainer.max_epochs", "3",
        "--model.optimizer.lr", "0.5", "--model.optimizer.weight_decay", "0.7",
    )  # fmt: skip
    assert {group["weight_decay"] for group in cli.trainer.optimizers[0].param_groups} == {0.7, 0.0}  # biases: none
    rates = [rate for step, rate in scalars(tmp_path / "runs/small/version_0")["lr/step/backbone.stage0"] if step > 8]
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 20 / 21)) / 2 if not scheduler else 0.5)
    assert cli.model.network.tasks["left"].loss.weight.tolist() == [2.0] * 10
    assert yaml.safe_load((tmp_path / "runs/small/version_0/config.yaml").read_text())["ckpt_path"] is None


def test_one_cycle_cannot_be_stretched(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    fit = ["fit", "--config", str(SMALL), "--model.lr_scheduler", "OneCycleLR", "--model.lr_scheduler.max_lr", "0.1"]
    train_here(*fit, "--trainer.max_epochs", "1")
    with pytest.raises(SystemExit) as stopped:
        train_here(*fit, "--trainer.max_epochs", "2", "--ckpt_path", "last")
    assert stopped.value.code == 2
    assert "OneCycleLR of 8 steps" in capfd.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "validated", [["--trainer.check_val_every_n_epoch", "2"], ["--trainer.limit_val_batches", "0"]]
)
def test_plateau_scheduler_waits_for_validation(train_here: Callable, validated: list[str]) -> None:
    plateau = ["--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"]
    assert train_here("fit", "--config", str(SMALL), *plateau, *validated).trainer.current_epoch == 4


def test_progress_bar_shows_the_loss_of_every_task(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here("fit", "--config", str(SMALL), "--trainer.enable_progress_bar", "true")
    shown = re.findall(
        r"left=([\d.]+), right=([\d.]+), sum=([\d.]+), parity=([\d.]+), val=([\d.]+)", capfd.readouterr().out
    )
    assert all(0 < float(loss) < 10 for loss in shown[-1])


def test_configuration_is_printed_and_every_field_has_a_sentence(
    train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    for option in ("--print_config", "--help_all"):
        with pytest.raises(SystemExit) as stopped:
            train_here("fit", "--config", str(SMALL), option)
        assert stopped.value.code == 0
        if option == "--print_config":
            assert yaml.safe_load(capfd.readouterr().out)["trainer"]["max_epochs"] == 4
    help_of = re.split(r"\n  (?=--)", capfd.readouterr().out)
    for field in (
        "model.backbone",
        "model.tasks",
        "data.sources",
        "data.sampling",
        "monitor",
        "patience",
        "save_every_n_steps",
        "ckpt_path",
    ):
        (text,) = [part for part in help_of if re.match(rf"--{field}[ \n]", part)]
        assert len(text.split("(type")[0].split()) > 6, text


def test_several_configs_merge_their_sources(train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "data: {sources: {more: {class_path: Digits, init_args: {train_pairs: 20, val_pairs: 8, test_pairs: 8}}}}"
    )
    cli = train_here("fit", "--config", str(SMALL), "--config", "more.yaml", "--trainer.fast_dev_run", "1")
    assert len(cli.datamodule.datasets["train"]) == 270


def test_several_configs_merge_their_tasks(train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("model: {tasks: {left: {weight: 2.0}, right: {weight: 3.0}}}")
    (tmp_path / "two.yaml").write_text("model: {tasks: {left: {auxiliary: true}}}\ntrainer: {fast_dev_run: 1}")
    cli = train_here("fit", "--config", str(SMALL), "--config", "one.yaml", "--config", "two.yaml")
    found = {name: (task.config.weight, task.config.auxiliary) for name, task in cli.model.network.tasks.items()}
    assert found == {"left": (2.0, True), "right": (3.0, False), "sum": (1.0, False), "parity": (1.0, False)}


def test_early_stopping_and_another_monitor(train_here: Callable, tmp_path: Path) -> None:
    cli = train_here(
        "fit", "--config", str(SMALL), "--monitor", "accuracy/val/left", "--patience", "1", "--model.optimizer.lr", "0",
        "--model.lr_scheduler", "null",
    )  # fmt: skip
    assert cli.trainer.current_epoch == 2  # the first validation, and one that is no better
    best = cli.trainer.checkpoint_callback
    assert (best.monitor, best.mode) == ("accuracy/val/left", "max")


def test_another_optimizer_inherits_nothing_of_the_default_one(train_here: Callable) -> None:
    cli = train_here("fit", "--config", str(SMALL), "--trainer.fast_dev_run", "1", "--model.optimizer", "null")
    assert isinstance(cli.trainer.optimizers[0], torch.optim.AdamW)
    config = yaml.safe_load(SMALL.read_text())
    config["model"]["optimizer"] = {"class_path": "SGD", "init_args": {"lr": 0.1}}
    Path("sgd.yaml").write_text(yaml.safe_dump(config))
    cli = train_here("fit", "--config", "sgd.yaml", "--trainer.fast_dev_run", "1")
    assert {group["weight_decay"] for group in cli.trainer.optimizers[0].param_groups} == {0.0}
