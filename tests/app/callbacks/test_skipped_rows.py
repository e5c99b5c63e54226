"""Rows that cannot be read, with `data.on_error: skip`."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, Train, scalars
from pictures import Pictures, cut

BROKEN = {"train": [3, 11, 50, 71], "val": [4], "test": [7, 12]}
SKIP = [
    "--config", str(SMALL), "--data.sources", "{pictures: {class_path: pictures.Pictures}}", "--data.on_error", "skip",
    "--data.sampling.batch_size", "16",
]  # fmt: skip


@pytest.fixture
def broken(train_here: Callable) -> None:
    Pictures().write()
    for split, rows in BROKEN.items():
        for row in rows:
            cut(f"pictures/{split}/{row}.png")


def counts(folder: str) -> dict[str, list[float]]:
    """Curve → its value at each step."""
    points = scalars(Path(folder))
    return {tag: list(dict(points[tag]).values()) for tag in points if tag.startswith("skipped/")}


@pytest.mark.usefixtures("broken")
def test_skipped_rows_are_warned_of_once_counted_every_epoch_and_named_at_the_end(
    train_here: Callable, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    train_here("fit", *SKIP, "--trainer.max_epochs", "3")
    expected = {"skipped/train": [4.0] * 3, "skipped/val": [1.0] * 3, "skipped/test": [2.0]}
    assert counts("runs/small/version_0") == expected
    warned = sorted(
        str(each.message).split(":")[1].strip() for each in recwarn if "a row is left out" in str(each.message)
    )
    assert warned == sorted(f"{split}/{row}.png" for split, rows in BROKEN.items() for row in rows)
    lines = caplog.messages
    (train,) = [line for line in lines if line.startswith("train: left out because they could not be read, 4 in all: ")]
    assert train.count(".png must be") == 3
    assert train.endswith("; …")
    (val,) = [line for line in lines if line.startswith("val: ")]
    assert val.startswith("val: left out because they could not be read, 1 in all: val/4.png: ")
    assert len([line for line in lines if line.startswith("test: left out because they could not be read, 2 ")]) == 1

    caplog.clear()
    train_here("validate", *SKIP)
    train_here("predict", *SKIP)
    assert [line.split(":")[0] for line in caplog.messages if "left out because" in line] == ["val", "predict"]
    with Path("runs/small/version_0/predictions.csv").open() as file:
        rows = [(row["row"], row["sample"]) for row in csv.DictReader(file)]
    assert rows == [(str(row), f"test/{row}.png") for row in range(20) if row not in BROKEN["test"]]


@pytest.mark.usefixtures("broken")
def test_the_count_of_an_epoch_survives_an_interruption(train_here: Callable) -> None:
    fit = ["fit", *SKIP, "--save_every_n_steps", "1"]
    fail = ["--trainer.callbacks+=spies.FailAt", "--trainer.callbacks.epoch=1", "--trainer.callbacks.batch=5"]
    with pytest.raises(SystemExit):
        train_here(*fit, *fail)
    train_here(*fit, "--ckpt_path", "last")
    assert counts("runs/small/version_0")["skipped/train"] == [4.0] * 4


@pytest.mark.usefixtures("broken")
def test_rows_of_all_ranks_are_counted_and_named(train: Train) -> None:
    one_row_a_batch = [
        "--data.sampling.batch_size",
        "1",
        "--data.eval_batch_size",
        "1",
    ]  # that of a broken row is empty
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "1"]
    done = train("fit", *SKIP, *one_row_a_batch, *ddp)
    assert counts("runs/small/version_0") == {"skipped/train": [4.0], "skipped/val": [1.0], "skipped/test": [2.0]}
    text = done.stdout + done.stderr
    for stage, rows in BROKEN.items():
        assert text.count(f"{stage}: left out because they could not be read, {len(rows)} in all") == 1
    assert all(text.count(f"a row is left out: train/{row}.png") == 1 for row in BROKEN["train"])


def test_nothing_is_counted_where_no_row_is_skipped(train_here: Callable) -> None:
    train_here("fit", "--config", str(SMALL), "--trainer.max_epochs", "1")
    assert counts("runs/small/version_0") == {}
