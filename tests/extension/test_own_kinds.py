"""A user's own kinds of target, in a file outside the repository, work wherever ours do."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL
from PIL import Image

MINE = """
from dataclasses import dataclass

import torch
from torch import nn
from torchmetrics import MeanAbsoluteError

from app.tasks import Task
from app.tasks.dense import DenseTask
from datamodules.sources import Source, TensorSplit
from datamodules.targets import Dense, Target


@dataclass(frozen=True)
class Stage(Target):
    '''One of several stages that follow each other.'''

    exclusive = True
    stages: tuple[str, ...]
    middle: float = 0.0

    @property
    def outputs(self):
        return len(self.stages) - 1

    @property
    def label_shape(self):
        return ()

    def invalid(self, labels):
        return (labels < 0) | (labels >= len(self.stages))

    @property
    def rule(self):
        return "a stage"

    def fitted(self, labels):
        return Stage(self.stages, labels.double().median().item())

    @property
    def class_names(self):
        return self.stages

    def members(self, labels):
        return torch.arange(len(labels)), labels.long()

    def describe(self, label):
        return f"stage {self.stages[int(label)]}"

    def summary(self, sampled=()):
        return f"median {self.stages[int(self.middle)]}"


class StageTask(Task):
    '''How probable it is that each stage is passed.'''

    def __init__(self, name, target, config, smallest: float = 0.0):
        super().__init__(name, target, config)
        self.smallest = smallest

    def default_loss(self):
        return nn.BCEWithLogitsLoss(reduction="none")

    def default_metrics(self):
        return {"stages_off": MeanAbsoluteError()}

    def losses(self, outputs, labels):
        passed = labels[:, None] > torch.arange(self.target.outputs, device=labels.device)
        return super().losses(outputs, passed.to(outputs.dtype))

    def predictions(self, outputs):
        return (outputs > self.smallest).sum(dim=1)

    def decode(self, outputs):
        return {self.name: [self.target.stages[stage] for stage in self.predictions(outputs).tolist()]}


@dataclass(frozen=True)
class Hue(Dense):
    '''An angle a pixel, -1 where there is none.'''

    outputs, label_shape, missing, rule = 2, (-1, -1), -1.0, "a map of angles"

    def valid(self, labels):
        return labels != -1

    def broken(self, labels):
        return (labels > 7) & self.valid(labels)

    def picture(self, label):
        return torch.tensor([255, 0, 128], dtype=torch.uint8)[:, None, None].expand(3, *label.shape)


class HueTask(DenseTask):
    def default_loss(self):
        return nn.MSELoss(reduction="none")

    def default_metrics(self):
        return {}

    def filled(self, labels):
        return torch.stack([labels.sin(), labels.cos()], dim=1)

    def predictions(self, outputs):
        return torch.atan2(outputs[:, 0], outputs[:, 1])

    def metric_labels(self, labels):
        return labels

    def decode(self, outputs):
        return {self.name: list(self.predictions(outputs).numpy())}


class Slides(Source):
    '''Tissue, brighter from stage to stage, in three groups of rows.'''

    def __init__(self, only: int = 3, rows: int = 48):
        self.only, self.rows = only, rows
        self.targets = {"stage": Stage(("early", "middle", "late")), "hue": Hue()}

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        stage = torch.arange(self.rows) % (self.only if name == "train" else 3)
        images = torch.rand(self.rows, 1, 12, 12, generator=generator) / 3 + stage[:, None, None, None] / 3
        hue = images[:, 0] * 6
        hue[:, :3] = -1
        return TensorSplit(images, {"stage": stage, "hue": hue}, {"hue": torch.arange(self.rows) % 2 == 0})
"""
TASKS = {
    "stage": {"task": {"class_path": "mine.StageTask", "init_args": {"smallest": 0.5}}},
    "hue": {"task": "mine.HueTask"},
}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """Writes the user's file, and a configuration for it."""

    def write(tasks: dict = TASKS, **options: int) -> str:
        (tmp_path / "mine.py").write_text(MINE)
        content = yaml.safe_load(SMALL.read_text())
        content["data"]["sources"] = {"slides": {"class_path": "mine.Slides", "init_args": options}}
        content["model"]["tasks"] = tasks
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        return "mine.yaml"

    return write


def refused(run: Callable, capfd: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    return capfd.readouterr().err.strip().splitlines()[-1]


def test_they_are_learned_in_folds_and_predicted(train_here: Callable, tmp_path: Path, config: Callable) -> None:
    folds = ["--data.folds", "{k: 4, fold: 1, stratify: stage}"]
    cli = train_here("fit", "--config", config(rows=60), *folds)
    assert cli.datamodule.targets["stage"].middle == 1.0
    of_stage = cli.datamodule.datasets["val"].splits[0].labels("stage").bincount().tolist()
    assert of_stage == [10, 10, 10]  # of the 120 rows for training and validation
    results = json.loads((tmp_path / "runs/small/version_0/results.json").read_text())
    assert {task: set(values) for task, values in results["tasks"].items()} == {
        "stage": {"loss", "stages_off"},
        "hue": {"loss"},
    }
    assert cli.model.network.tasks["stage"].smallest == 0.5
    train_here("predict", "--config", "mine.yaml")
    header, first, *_ = (tmp_path / "runs/small/version_0/predictions.csv").read_text().splitlines()
    assert header == "row,source,sample,stage,hue,stage_true"
    assert first.split(",")[3] in ("early", "middle", "late")
    assert first.split(",")[5] in ("stage early", "stage middle", "stage late")
    assert np.load(tmp_path / "runs/small/version_0/predictions/hue/0.npy").shape == (12, 12)


def test_they_report_of_their_data_in_words_and_colours(
    train_here: Callable,
    tmp_path: Path,
    config: Callable,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    train_here("data", "--config", config())
    text = capsys.readouterr().out
    assert "median middle" in text
    assert "25.0% missing" in text
    sheet = np.asarray(Image.open(tmp_path / "runs/small/data.png").convert("RGB"))
    of_hue = (sheet == [255, 0, 128]).all(axis=2).sum()
    assert of_hue > 0
    assert of_hue % (156 * 156) == 0  # whole tiles, thirteen pixels for one


def test_a_class_that_training_lacks_is_refused(
    train_here: Callable, config: Callable, capfd: pytest.CaptureFixture
) -> None:
    message = refused(train_here, capfd, "fit", "--config", config(only=2))
    assert "split 'val', row 2, target 'stage': a class must occur in split 'train' too, found 'late'" in message


def test_one_that_says_not_how_it_is_learned_is_refused(
    train_here: Callable, config: Callable, capfd: pytest.CaptureFixture
) -> None:
    message = refused(train_here, capfd, "fit", "--config", config(tasks={"stage": TASKS["stage"]}))
    assert "data.targets.hue" in message
    assert "model.tasks.hue.task" in message
    assert message.endswith("found Hue")
    train_here("data", "--config", "mine.yaml")


@pytest.mark.parametrize("wrong", ["mine.Slides", "mine.Hue", "os.system"])
def test_what_is_no_task_is_refused(
    train_here: Callable, config: Callable, capfd: pytest.CaptureFixture, wrong: str
) -> None:
    message = refused(train_here, capfd, "fit", "--config", config(tasks={**TASKS, "hue": {"task": wrong}}))
    assert "model.tasks" in message
    assert wrong in message
