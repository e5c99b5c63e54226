"""What a run leaves behind, read back from its files."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, scalars, steps
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

FIT = [
    "fit", "--config", str(SMALL), "--model.tasks.sum.weight", "0.5", "--model.tasks.parity.auxiliary", "true",
    "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder", ".",
]  # fmt: skip
TASKS = ["left", "right", "sum", "parity"]
STAGES = ["stage0", "stage1", "stage2"]


def tensors(folder: Path) -> dict[str, list[bytes]]:
    """Tag → texts of every tensor in a run's event files."""
    found = {}
    for file in folder.glob("events*"):
        events = EventAccumulator(str(file), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            found[tag] = [text for each in events.Tensors(tag) for text in each.tensor_proto.string_val]
    return found


@pytest.fixture
def folder(train_here: Callable, tmp_path: Path, finished_run: Path) -> Path:
    """A finished run of `FIT`, in the current folder."""
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs/small/version_0"


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import ROOT, main

    where = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.syspath_prepend(str(ROOT / "tests"))
        patch.setattr("sys.argv", ["train.py"])
        main(FIT)
    return where


def test_curves_are_named_after_quantity_stage_and_task(folder: Path) -> None:
    expected = {f"loss/{stage}/{task}" for stage in ("train", "step", "val", "test") for task in TASKS}
    expected |= {f"loss/{stage}/total" for stage in ("train", "val", "test")}
    for stage in ("train", "val", "test"):
        expected |= {f"accuracy/{stage}/{task}" for task in ("left", "right", "parity")}
        expected |= {f"mae/{stage}/sum", f"rmse/{stage}/sum", f"f1/{stage}/parity"}
    for stage in ("val", "test"):
        expected |= {f"{quantity}/{stage}/{task}" for quantity in ("balanced_accuracy", "f1") for task in TASKS[:2]}
        expected |= {f"r2/{stage}/sum", f"auroc/{stage}/parity", f"average_precision/{stage}/parity"}
    expected |= {f"lr/step/heads.{task}" for task in TASKS} | {"epoch"}
    expected |= {f"lr/step/backbone.{group}" for group in STAGES}
    assert set(scalars(folder)) - {f"hparams/{name}" for name in expected} == expected


def test_epoch_mean_is_the_mean_over_the_rows_of_its_steps(folder: Path) -> None:
    logged = scalars(folder)
    lines = steps(folder.parents[2])
    for task in TASKS:
        values = [value for _, value in logged[f"loss/step/{task}"]]
        for epoch, (_, mean) in enumerate(logged[f"loss/train/{task}"]):
            mine = [(line["counts"][task], v) for line, v in zip(lines, values, strict=True) if line["epoch"] == epoch]
            assert mean == pytest.approx(sum(n * v for n, v in mine) / sum(n for n, _ in mine), rel=1e-5)


def test_total_is_weighted_and_leaves_auxiliary_tasks_out(folder: Path) -> None:
    logged = {name: [value for _, value in points] for name, points in scalars(folder).items()}
    for left, right, total_sum, total in zip(
        *(logged[f"loss/val/{name}"] for name in ("left", "right", "sum", "total")), strict=True
    ):
        assert total == pytest.approx(left + right + 0.5 * total_sum, rel=1e-5)


def test_layout_has_one_chart_a_quantity_and_one_line_a_task(folder: Path) -> None:
    layout = Layout()
    layout.ParseFromString(tensors(folder)["custom_scalars__config__"][0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    tags = [*scalars(folder), "loss/val/another run's", "loss/val/mean", "loss/value/left"]
    lines = {title: {tag for tag in tags for each in of if re.match(each, tag)} for title, of in charts.items()}
    assert lines["accuracy/val"] == {f"accuracy/val/{task}" for task in ("left", "right", "parity")}
    assert lines["loss/val"] == {f"loss/val/{task}" for task in [*TASKS, "another run's"]}
    assert lines["mae/val"] == {"mae/val/sum"}
    assert lines["lr/step"] == {tag for tag in tags if tag.startswith("lr/")}
    assert not any(task in pattern for of in charts.values() for pattern in of for task in TASKS)


def test_hyper_parameters_are_those_that_the_user_set(folder: Path) -> None:
    metadata = {}
    for file in folder.glob("events*"):
        metadata |= EventAccumulator(str(file)).Reload().summary_metadata
    parts = {
        tag: HParamsPluginData.FromString(each.plugin_data.content)
        for tag, each in metadata.items()
        if tag.startswith("_hparams_")
    }
    start = parts["_hparams_/session_start_info"].session_start_info
    found = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    assert found == {
        "seed_everything": 0, "data.sources.digits": "Digits", "data.sources.digits.train_pairs": 250,
        "data.sources.digits.val_pairs": 64, "data.sources.digits.test_pairs": 64,
        "data.sampling": "Shared", "data.sampling.batch_size": 32, "model.backbone": "LeNet",
        "model.backbone.widths": "[8, 8]", "model.backbone.kernel_size": 3, "model.backbone.padding": 1,
        "model.backbone.features": 16, "model.backbone.dropout": 0.1, "model.optimizer": "AdamW",
        "model.optimizer.lr": 0.003, "model.lr_scheduler": "WarmupCosine", "model.lr_scheduler.warmup_steps": 3,
        "model.tasks.sum.weight": 0.5, "model.tasks.parity.auxiliary": True, "trainer.accelerator": "cpu",
        "trainer.max_epochs": 4, "trainer.log_every_n_steps": 1, "trainer.enable_progress_bar": False,
        "trainer.callbacks.0": "RecordSteps", "trainer.callbacks.0.folder": ".",
    }  # fmt: skip
    figures = {info.name.tag for info in parts["_hparams_/experiment"].experiment.metric_infos}
    assert figures == {"loss/val/total"} | {tag for tag in scalars(folder) if "/test/" in tag}
    assert parts["_hparams_/session_end_info"].session_end_info.status == STATUS_SUCCESS
    assert yaml.safe_load((folder / "hparams.yaml").read_text()).keys() == found.keys()


def test_log_has_a_line_an_epoch(folder: Path) -> None:
    text = (folder / "log.txt").read_bytes()
    assert not {*b"\r\x1b"} & {*text}
    found = re.findall(
        r"epochs (\d)/4 · left accuracy (\S+) · right accuracy (\S+) · sum mae (\S+) · parity accuracy (\S+) · "
        r"loss/val/total (\S+) \((.*)\) · [\d.]+ s(, [\d.]+ s left)?",
        text.decode(),
    )
    logged = {name: [value for _, value in points] for name, points in scalars(folder).items()}
    figures = ["accuracy/val/left", "accuracy/val/right", "mae/val/sum", "accuracy/val/parity", "loss/val/total"]
    assert [line[0] for line in found] == ["1", "2", "3", "4"]
    for place, (_, *values, best, left) in enumerate(found):
        assert values == [f"{logged[name][place]:.4f}" for name in figures]
        least = min(logged["loss/val/total"][: place + 1])
        after = logged["loss/val/total"].index(least)
        assert best == ("best" if after == place else f"best {least:.4f} after {after + 1}")
        assert bool(left) == (place < 3)


def test_last_lines_say_where_everything_is_and_what_is_next(folder: Path, train_here: Callable) -> None:
    lines = [line[len("2026-11-27 13:34:00 ") :] for line in (folder / "log.txt").read_text().splitlines()]
    (place,) = [number for number, line in enumerate(lines) if line.startswith("runs/small/version_0: checkpoints/")]
    for part in lines[place].removeprefix("runs/small/version_0: ").split(", "):
        assert (folder / part.split(" ")[0]).is_file()
    commands = [shlex.split(line, comments=True) for line in lines[place + 1 :]]
    assert commands[0] == ["tensorboard", "--logdir", "runs"]
    for _, _, *arguments in commands[1:]:
        train_here(*arguments)
    assert {path.name for path in folder.iterdir()} >= {"predictions.csv", "model.onnx"}


def test_some_predictions_are_shown_beside_the_labels(folder: Path, train_here: Callable) -> None:
    train_here("predict", "--run", str(folder), "--split", "test")
    with (folder / "predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    head, _, *rows = tensors(folder)["predictions/test/text_summary"][0].decode().splitlines()
    assert head == "| row | left | right | sum | parity |"
    assert len(rows) == 16
    for row in rows:
        number, left, _, total, parity = row.strip("| ").split(" | ")
        line = predicted[int(number)]
        assert left == f"{line['left']} ({line['left_true']})"
        assert parity == f"{line['parity']} ({line['parity_true']})"
        assert float(total.split(" ")[0]) == pytest.approx(float(line["sum"]), rel=1e-3)
    assert any(
        "predictions/test" in EventAccumulator(str(file)).Reload().Tags()["images"] for file in folder.glob("events*")
    )


def test_best_checkpoint_is_tested_and_its_figures_written(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    logged = scalars(folder)
    assert list(results) == ["format", "tasks", "classes", "best", "step", "checkpoint", "seed"]
    assert {task: list(metrics) for task, metrics in results["tasks"].items()} == {
        "left": ["loss", "accuracy", "balanced_accuracy", "f1"],
        "right": ["loss", "accuracy", "balanced_accuracy", "f1"],
        "sum": ["loss", "mae", "rmse", "r2"],
        "parity": ["loss", "accuracy", "f1", "auroc", "average_precision"],
    }
    for task, metrics in results["tasks"].items():
        for quantity, value in metrics.items():
            points = logged[f"{quantity}/test/{task}"]
            assert {step for step, _ in points} == {32}
            assert value == pytest.approx(points[-1][1], rel=1e-6)
    assert results["seed"] == 0
    best_step, _ = min(logged["loss/val/total"], key=lambda point: point[1])
    checkpoint = torch.load(folder / results["checkpoint"], weights_only=True)
    assert results["step"] == checkpoint["global_step"] == best_step + 1


def test_config_echo_repeats_the_run(folder: Path, train_here: Callable) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["tasks"]["sum"]["weight"] == 0.5
    train_here("fit", "--config", str(folder / "config.yaml"), "--name", "again")
    again = json.loads((folder.parents[1] / "again/version_0/results.json").read_text())
    assert again == json.loads((folder / "results.json").read_text())


def test_test_of_the_best_checkpoint_prints_the_same_table(
    folder: Path, train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    train_here("test", *FIT[1:7])
    table = capfd.readouterr().out
    results = json.loads((folder / "results.json").read_text())
    for metrics in results["tasks"].values():
        for value in metrics.values():
            assert f"{value:.4f}" in table
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]


def test_predictions_are_in_the_users_own_labels(folder: Path, train_here: Callable) -> None:
    train_here("predict", *FIT[1:7], "--ckpt_path", "best")
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [row["sample"] for row in rows] == [str(number) for number in range(64)]
    assert {row["parity"] for row in rows} <= {"same", "different"}
    assert {row["left"] for row in rows} <= set("0123456789")
    assert all(-5 < float(row["sum"]) < 25 for row in rows)
    assert all(0 <= float(row["parity_probability_same"]) <= 1 for row in rows)


def test_configuration_wins_over_the_checkpoint(
    folder: Path, train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_here("test", *FIT[1:7], "--model.backbone.init_args.features", "32")
    assert stopped.value.code == 2
    assert "(16,) instead of (32,)" in capfd.readouterr().err.strip().splitlines()[-1]
