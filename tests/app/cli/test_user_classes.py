"""A user's own classes, in a file outside the repository, are used by `class_path` alone."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from conftest import SMALL

MINE = """
import torch
from torch import nn

from datamodules.sources import Source, TensorSplit
from datamodules.targets import Continuous, MultiLabel
from models.backbones import Backbone
from models.heads import Head


class Points(Source):
    '''Points in the plane: how far out, and in which half-planes.'''

    def __init__(self, rows: int = 64):
        self.rows = rows
        self.targets = {"radius": Continuous(unit="m"), "half-planes": MultiLabel(("right", "upper"))}

    def split(self, name):
        points = torch.randn(self.rows, 2, generator=torch.Generator().manual_seed(len(name)))
        return TensorSplit(points, {"radius": points.norm(dim=1), "half-planes": (points > 0).float()})


class Waves(Backbone):
    def __init__(self, input_shape, waves: int):
        super().__init__()
        self.linear, self.channels = nn.Linear(input_shape[0], waves), [waves]

    @property
    def stages(self):
        return [self.linear]

    def forward(self, x):
        return [self.linear(x).sin()]


class Scaled(Head):
    def __init__(self, channels, outputs, scale: float = 1.0):
        super().__init__()
        self.linear, self.scale = nn.Linear(channels[-1], outputs), scale

    def forward(self, features):
        return self.scale * self.linear(features[-1])
"""


def test_source_backbone_and_head_of_a_user(train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    config = yaml.safe_load(SMALL.read_text())
    config["data"]["sources"] = {"points": {"class_path": "mine.Points"}}
    config["model"]["backbone"] = {"class_path": "mine.Waves", "init_args": {"waves": 12}}
    config["model"]["head"] = {"class_path": "mine.Scaled", "init_args": {"scale": 2.0}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    train_here("fit", "--config", "mine.yaml")
    results = json.loads((tmp_path / "runs/small/version_0/results.json").read_text())
    assert list(results["tasks"]) == ["radius", "half-planes"]
    train_here("predict", "--config", "mine.yaml")
    header = (tmp_path / "runs/small/version_0/predictions.csv").read_text().splitlines()[0]
    predicted = "radius (m),half-planes,half-planes_probability_right,half-planes_probability_upper"
    assert header == f"row,source,sample,{predicted},radius_true,half-planes_true"
