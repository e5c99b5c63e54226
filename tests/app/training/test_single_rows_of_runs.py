"""Runs in which a process or a task is left with a single row, under batch normalisation of maps of one pixel."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, Train, steps

RESNET = [
    "fit", "--config", str(SMALL), "--model.backbone", "TimmBackbone", "--model.backbone.name", "resnet10t",
    "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0", "--trainer.limit_test_batches", "0",
    "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder",
]  # fmt: skip
PARTIAL = ["--data.sources", "{partial: {class_path: partial.PartialDigits}}", "--data.sampling.batch_size", "8"]


@pytest.mark.parametrize(
    "sharing",
    [
        pytest.param(["IndependentNetworks"], id="own", marks=pytest.mark.slow),
        pytest.param(["HardSharing", "--model.sharing.statistics", "task"], id="by task"),
    ],
)
def test_a_task_may_have_one_row_in_a_batch(train_here: Callable, tmp_path: Path, sharing: list[str]) -> None:
    train_here(*RESNET, str(tmp_path), *PARTIAL, "--model.sharing", *sharing)
    assert 1 in [len(rows) for line in steps(tmp_path) for rows in line["tasks"].values()]


def test_no_process_is_left_with_one_row(train: Train, tmp_path: Path) -> None:
    rows = "{digits: {class_path: Digits, init_args: {train_pairs: 18, val_pairs: 4, test_pairs: 4, tasks: [sum]}}}"
    train(*RESNET, str(tmp_path), "--data.sources", rows, "--data.sampling.batch_size", "4", "--trainer.devices", "2",
          "--trainer.strategy", "ddp")  # fmt: skip
    assert [[len(line["rows"]) for line in steps(tmp_path, rank)] for rank in range(2)] == [[4, 4, 2], [4, 4, 0]]
