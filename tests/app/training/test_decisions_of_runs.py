"""Thresholds and temperatures that the validation split sets: in checkpoints, in use, on ranks and in resumed runs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars
from resuming import fit, kill_and_resume, last
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

PARITY = ["--model.tasks.parity.threshold", "f1", "--model.tasks.parity.calibrate", "true"]
EMA = ["--trainer.callbacks+=EMA", "--trainer.callbacks.decay", "0.8"]
THRESHOLD, TEMPERATURE = (f"network.tasks.parity.decision.{name}" for name in ("threshold", "temperature"))
FOLDER = Path("runs/small/version_0")
EXACT = [
    "fit", "--config", str(SMALL), "--data.sources", "{partial: {class_path: partial.PartialDigits}}",
    "--trainer.precision", "64-true", "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1",
    "--model.backbone.init_args.dropout", "0", "--trainer.max_epochs", "2", *PARITY,
    "--model.tasks.parity.threshold", "balanced_accuracy",
]  # fmt: skip


def saved(which: str, name: str = "small") -> dict:
    return torch.load(f"runs/{name}/version_0/checkpoints/{which}.ckpt", weights_only=True)


@pytest.mark.parametrize("average", [[], EMA], ids=["plain", "ema"])
def test_they_are_those_of_the_checkpoints_own_validation(train_here: Callable, average: list[str]) -> None:
    train_here("fit", "--config", str(SMALL), *PARITY, *average, "--monitor", "auroc/val/parity")
    best, end = saved("best"), saved("last")
    assert best["state_dict"][THRESHOLD] != 0.5
    assert best["state_dict"][TEMPERATURE] != 1
    if average:
        assert end["state_dict"][THRESHOLD] == end["current_model_state"][THRESHOLD]
    step = best["global_step"] - 1
    curves = {tag: dict(points)[step] for tag, points in scalars(FOLDER).items() if step in dict(points)}
    options = ["--config", str(SMALL), *PARITY]
    validated = train_here("validate", *options).trainer.callback_metrics
    for quantity in ("accuracy", "f1", "auroc", "average_precision"):
        tag = f"{quantity}/val/parity"
        assert float(validated[tag]) == pytest.approx(curves[tag], rel=1e-6)

    data = train_here("predict", *options).datamodule
    with (FOLDER / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    probabilities = [float(row["parity_probability_same"]) for row in table]
    said = [row["parity"] == "same" for row in table]
    assert said == [p > float(best["state_dict"][THRESHOLD]) for p in probabilities]
    labels = data.datasets["test"].splits[0].labels("parity").bool().tolist()
    tested = json.loads((FOLDER / "results.json").read_text())["tasks"]["parity"]
    assert tested["accuracy"] == pytest.approx(accuracy_score(labels, said), abs=1e-6)
    assert tested["f1"] == pytest.approx(f1_score(labels, said), abs=1e-6)
    assert tested["auroc"] == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-6)


def test_they_are_of_the_rows_of_all_ranks(train: Train, train_here: Callable) -> None:
    train_here(*EXACT, "--data.sampling.batch_size", "24")
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--name", "ranks"]
    train(*EXACT, "--data.sampling.batch_size", "12", *ddp)
    alone, together = saved("last"), saved("last", "ranks")
    assert alone["state_dict"][THRESHOLD] != 0.5
    for name, value in alone["state_dict"].items():
        if value.is_floating_point() and name.startswith("network"):
            assert (value - together["state_dict"][name]).abs().max() <= 1e-9, name
    one, two = (scalars(Path(f"runs/{name}/version_0")) for name in ("small", "ranks"))
    tags = [
        tag for tag in one if tag.startswith(("auroc", "average_precision", "balanced", "f1", "r2", "accuracy/val"))
    ]
    assert {tag.split("/")[0] for tag in tags} == {
        "auroc",
        "average_precision",
        "balanced_accuracy",
        "f1",
        "r2",
        "accuracy",
    }
    assert one.keys() == two.keys()
    for tag in tags:
        assert [value for _, value in one[tag]] == pytest.approx([value for _, value in two[tag]], abs=1e-6), tag


def test_a_run_that_is_resumed_has_them_to_the_last_bit(train: Train, train_here: Callable, tmp_path: Path) -> None:
    options = [*PARITY, *EMA, "--trainer.max_epochs", "3"]
    train_here(*fit("whole", *options))
    kill_and_resume(train, train_here, options, step=20)
    assert last("whole")["state_dict"][THRESHOLD] != 0.5


def test_a_head_is_taken_from_a_run_that_set_none_of_it(train_here: Callable, caplog: pytest.LogCaptureFixture) -> None:
    short = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--name"]
    train_here(*short, "plain")
    for before, after, options in [("plain", "setting", PARITY), ("setting", "again", [])]:
        caplog.clear()
        train_here(*short, after, *options, "--model.init_from", f"runs/{before}/version_0/checkpoints/last.ckpt")
        assert any("taken: heads.parity, " in line for line in caplog.messages)
    assert saved("last", "setting")["state_dict"][THRESHOLD] != 0.5
    assert THRESHOLD not in saved("last", "again")["state_dict"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.limit_val_batches", "0"], "model.tasks.parity.calibrate: needs validation"),
        (
            ["--model.tasks.left.threshold", "0.4"],
            "model.tasks.left.threshold: is not for a target of kind Categorical",
        ),
        (
            ["--model.tasks.parity.threshold", "most"],
            "threshold: must be balanced_accuracy, f1 or a number, found most",
        ),
    ],
)
def test_refused_in_one_line(
    train_here: Callable, capfd: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_here("fit", "--config", str(SMALL), *PARITY, *options)
    assert stopped.value.code == 2
    assert message in capfd.readouterr().err.strip().splitlines()[-1]


def test_figures_without_a_value_are_no_curve_and_cannot_be_monitored(
    train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    rows = ["x,split,sick,many", *(f"{i % 7},train,{i % 2},{'a|b' if i % 3 else 'a'}" for i in range(40))]
    rows += [f"{i},{split},0,a" for split in ("val", "test") for i in range(9)]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    targets = "{sick: {kind: binary}, many: }"
    table = f"{{path: rows.csv, features: [x], split: split, targets: {targets}}}"
    data = f"{{rows: {{class_path: Table, init_args: {table}}}}}"
    options = [
        "fit",
        "--config",
        str(SMALL),
        "--data.sources",
        data,
        "--model.backbone",
        "MLP",
        "--trainer.max_epochs",
        "1",
    ]
    train_here(*options)
    assert not [tag for tag in scalars(FOLDER) if tag.startswith(("auroc", "average_precision"))]
    results = json.loads((FOLDER / "results.json").read_text())
    assert results["tasks"]["sick"].keys() == {"loss", "accuracy", "f1"}
    for wrong, message in {
        "--monitor=auroc/val/sick": "monitor: must have a value where all labels of split 'val' are alike",
        "--model.tasks.sick.threshold=f1": "model.tasks.sick.threshold: needs rows of both kinds in split 'val'",
    }.items():
        with pytest.raises(SystemExit):
            train_here(*options, wrong)
        assert message in capfd.readouterr().err.strip().splitlines()[-1]
