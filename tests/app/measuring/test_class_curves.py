"""A metric that gives a number for each class has a curve for each."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, scalars
from sklearn.metrics import f1_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchmetrics import ConfusionMatrix, MeanSquaredError, Metric
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassF1Score, MultilabelF1Score

from app.measuring.stage import StageMetrics
from app.tasks import TaskConfig, task_of
from datamodules.targets import Categorical, Continuous, MultiLabel, Target
from models.by_name import ModulesByName

KIND, FLAGS = Categorical(("a cat", "dog/wolf", "c")), MultiLabel(("x", "y"))


class Extremes(Metric):
    """The least and the largest error; more of them is neither better nor worse."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("errors", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, predicted: torch.Tensor, labels: torch.Tensor) -> None:
        if len(labels) != 3:
            raise ValueError("three rows")
        self.errors = torch.stack((predicted - labels).aminmax()).float()

    def compute(self) -> torch.Tensor:
        return self.errors


def stage(target: Target, **metrics: Metric) -> StageMetrics:
    return StageMetrics("val", ModulesByName({"it": task_of("it", target, TaskConfig(metrics=metrics))}))


def test_each_class_has_its_own_by_its_name() -> None:
    metrics = stage(KIND, f1=MulticlassF1Score(3, average="none"), all=MulticlassF1Score(3))
    predicted, labels = torch.eye(3)[[0, 1, 1, 2, 0]], torch.tensor([0, 1, 2, 2, 1])
    metrics.update(torch.tensor([1.0]), torch.tensor([5]), {"it": (predicted, labels)})
    values = metrics.compute()
    expected = f1_score(labels, predicted.argmax(1), average=None)
    names = ["f1/val/it/a cat", "f1/val/it/dog/wolf", "f1/val/it/c"]
    assert [values[name].item() for name in names] == pytest.approx(expected.tolist())
    assert values["all/val/it"] == pytest.approx(expected.mean())
    better = metrics.higher_is_better()
    assert set(better) == set(values)
    assert all(better[name] is True for name in names)


def test_it_is_known_before_a_row_is_seen() -> None:
    assert "f1/val/it/y" in stage(FLAGS, f1=MultilabelF1Score(2, average=None)).higher_is_better()


def test_several_numbers_that_are_not_of_classes_are_numbered() -> None:
    metrics = stage(Continuous(), extremes=Extremes())
    metrics.update(torch.tensor([1.0]), torch.tensor([3]), {"it": (torch.tensor([1.0, 2, 3]), torch.zeros(3))})
    values = metrics.compute()
    assert (values["extremes/val/it/0"], values["extremes/val/it/1"]) == (1, 3)


def test_the_mean_over_tasks_is_of_single_numbers() -> None:
    tasks = ModulesByName(
        {
            name: task_of(name, KIND, TaskConfig(metrics={"f1": MulticlassF1Score(3, average=average)}))
            for name, average in [("one", "macro"), ("each", "none")]
        }
    )
    assert StageMetrics("val", tasks).in_common() == {}


@pytest.mark.parametrize("metric", [MulticlassConfusionMatrix(3), ConfusionMatrix("multiclass", num_classes=3)])
def test_a_matrix_is_refused_at_the_start(metric: Metric) -> None:
    message = r"^model\.tasks\.it\.metrics\.all: must give a number, or one for each class, found \(3, 3\)$"
    with pytest.raises(ValueError, match=message):
        stage(KIND, all=metric)


def test_what_a_metric_is_tried_on_does_not_count() -> None:
    metrics = stage(Continuous(), mse=MeanSquaredError())
    metrics.update(torch.tensor([1.0]), torch.tensor([2]), {"it": (torch.ones(2), torch.zeros(2))})
    assert metrics.compute()["mse/val/it"] == 1


def test_a_run_logs_and_monitors_them(train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    kind = "torchmetrics.classification.MulticlassF1Score"
    f1 = f"{{f1: {{class_path: {kind}, init_args: {{num_classes: 10, average: none}}}}}}"
    train_here(
        "fit", "--config", str(SMALL), "--model.tasks.left.metrics", f1, "--monitor", "f1/val/left/3",
        "--trainer.max_epochs", "3",
    )  # fmt: skip
    folder = tmp_path / "runs/small/version_0"
    points = scalars(folder)
    for stage_name in ("train", "val"):
        assert all(len(points[f"f1/{stage_name}/left/{digit}"]) == 3 for digit in range(10))
    results = json.loads((folder / "results.json").read_text())
    assert {f"f1/{digit}" for digit in range(10)} <= set(results["tasks"]["left"])
    best = max(value for _, value in points["f1/val/left/3"])
    assert results["best"]["f1/val/left/3"] == pytest.approx(best)
    assert "f1/3" in capsys.readouterr().out
    file = min(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)
    layout = EventAccumulator(str(file)).Reload().Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"f1/val/left/.+$" in layout
    assert np.isfinite(list(results["tasks"]["left"].values())).all()
