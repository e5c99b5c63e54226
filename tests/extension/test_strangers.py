"""A stranger adds a part of each kind, in one file outside the repository, by `class_path` alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

from app.cli import commands
from models.sharing import HardSharing

PARTS = {
    "method.py": """
        from app.balancing import Weighting

        class SmallestFirst(Weighting):
            '''Weighs a task by how small its gradient is.'''

            def forward(self, gramian, step):
                weights = 1 / gramian.diagonal().sqrt()
                return weights / weights.sum()
    """,
    "scheme.py": """
        import torch
        from torch import nn

        from models.sharing import IndependentNetworks, Sharing

        class Scaled(Sharing):
            '''One trunk, of whose embedding each task has a scale of its own.'''

            def __init__(self, backbone, tasks):
                super().__init__()
                self.trunk = backbone()
                width = self.trunk.channels[-1]
                self.scales = nn.ParameterDict({task: nn.Parameter(torch.ones(width)) for task in tasks})
                self.channels = {task: self.trunk.channels for task in tasks}

            passes_on_features = True

            def shared_features(self, inputs, rows):
                return self.trunk(inputs)

            def task_features(self, shared, rows):
                return {t: [*(x[r] for x in shared[:-1]), shared[-1][r] * self.scales[t]] for t, r in rows.items()}

            def shared_parameters(self):
                return list(self.trunk.parameters())

            def task_parameters(self, task):
                return [self.scales[task]]

        class Forgetful(Scaled):
            '''Leaves the scales out.'''

            def task_parameters(self, task):
                return []

        class Leaky(Scaled):
            '''Reads the first task's scale for every task.'''

            def task_features(self, shared, rows):
                scale = next(iter(self.scales.values()))
                return {t: [*(x[r] for x in shared[:-1]), shared[-1][r] * scale] for t, r in rows.items()}

        class Idle(Scaled):
            '''Has a shared parameter that nobody reads.'''

            def __init__(self, backbone, tasks):
                super().__init__(backbone, tasks)
                self.idle = nn.Parameter(torch.ones(2))

            def shared_parameters(self):
                return [*self.trunk.parameters(), self.idle]

        class Listing(Scaled):
            '''Gives features in a list.'''

            def task_features(self, shared, rows):
                return [shared[-1]]

        class Narrow(Scaled):
            '''Does not say how wide the features are.'''

            def __init__(self, backbone, tasks):
                super().__init__(backbone, tasks)
                del self.channels

        class Nothing(Sharing):
            '''Defines no way from inputs to features.'''

            def __init__(self, backbone, tasks):
                super().__init__()
                self.trunk = backbone()
                self.channels = {task: self.trunk.channels for task in tasks}

            def shared_parameters(self):
                return list(self.trunk.parameters())

            def task_parameters(self, task):
                return []

        class Apart(IndependentNetworks):
            '''Calls networks shared of which each serves one task.'''

            def shared_parameters(self):
                return list(self.networks.parameters())

            def task_parameters(self, task):
                return []

        class Past(Scaled):
            '''Lets a shared scale reach the tasks past the features.'''

            def shared_parameters(self):
                return [*self.trunk.parameters(), *self.scales.values()]

            def task_parameters(self, task):
                return []
    """,
    "source.py": """
        import torch

        from datamodules.sources import Source, TensorSplit
        from datamodules.targets import Binary, Continuous

        class Discs(Source):
            '''Discs of grey: how large, and whether the left half is empty.'''

            targets = {"area": Continuous(unit="px"), "cut": Binary(("no", "yes"))}

            def split(self, name):
                draw = torch.Generator().manual_seed(len(name))
                radius, cut = 1 + 5 * torch.rand(48, generator=draw), torch.rand(48, generator=draw) > 0.5
                y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
                discs = ((x - 8) ** 2 + (y - 8) ** 2 < radius[:, None, None] ** 2).float()
                discs[cut, :, :8] = 0
                return TensorSplit(discs[:, None], {"area": discs.sum((1, 2)), "cut": cut.float()})
    """,
    "metric.py": """
        import torch
        from torchmetrics import Metric

        class Bias(Metric):
            '''How much larger predictions are than labels; neither direction is better.'''

            higher_is_better = None

            def __init__(self):
                super().__init__()
                self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
                self.add_state("rows", torch.zeros(()), dist_reduce_fx="sum")

            def update(self, predictions, labels):
                self.total += (predictions - labels).sum()
                self.rows += len(labels)

            def compute(self):
                return self.total / self.rows
    """,
}
FIT = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--data.sources", "{discs: source.Discs}"]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for name, text in PARTS.items():
        lines = text.splitlines()[1:-1]
        (tmp_path / name).write_text("\n".join(line.removeprefix(" " * 8) for line in lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("level", ["parameters", "features"])
def test_a_method_a_scheme_a_source_and_a_metric_train_together(level: str, parts: Path, train_here: Callable) -> None:
    train_here(
        *FIT, "--model.balancer", "method.SmallestFirst", "--model.gradients.level", level,
        "--model.sharing", "scheme.Scaled", "--model.tasks.area.metrics", "{bias: metric.Bias}",
    )  # fmt: skip
    results = json.loads((parts / "runs/small/version_0/results.json").read_text())
    assert set(results["tasks"]["area"]) == {"loss", "bias"}
    assert set(results["tasks"]["cut"]) == {"loss", "accuracy", "f1", "auroc", "average_precision"}


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("Forgetful", ["every parameter of Forgetful", "scales.", "0 times"]),
        ("Leaky", ["task 'cut' of Leaky must reach no parameters", "its own", "scales.area"]),
        ("Idle", ["a parameter of Idle must be reached by several tasks", "found idle"]),
        ("Listing", ["Listing must give features by task", "found list"]),
        ("Narrow", ["Narrow must have channels of every task ['area', 'cut']", "found None"]),
        ("Nothing", ["Nothing must define shared_features, or forward"]),
        ("Apart", ["a parameter of Apart must be reached by several tasks", "networks.area."]),
        ("Past", ["task 'area' of Past must reach no parameters", "past shared_features", "scales.area"]),
    ],
)
def test_a_wrong_scheme_is_refused_at_the_door(
    scheme: str, words: list[str], parts: Path, train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as refused:
        train_here(*FIT, "--model.sharing", f"scheme.{scheme}")
    assert refused.value.code == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: model.sharing: ")
    assert all(word in line for word in words), line
    assert not (parts / "runs").exists()  # the folder that was claimed for it


def test_a_metric_without_a_direction_is_not_monitored_unless_the_user_says(
    parts: Path, train_here: Callable, capfd: pytest.CaptureFixture
) -> None:
    bias = [*FIT, "--model.tasks.area.metrics", "{bias: metric.Bias}", "--monitor", "bias/val/area"]
    with pytest.raises(SystemExit):
        train_here(*bias)
    assert (
        capfd.readouterr().err.splitlines()[-1].startswith("error: monitor_mode: must be min or max for bias/val/area")
    )
    train_here(*bias, "--monitor_mode", "min")
    assert list(json.loads((parts / "runs/small/version_0/results.json").read_text())["best"]) == ["bias/val/area"]


def test_a_scheme_whose_forward_would_not_be_called_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="Own passes on features, so it must define shared_features and task_features"):

        class Own(HardSharing):
            def forward(self, inputs, rows):
                return {}


COMMAND = '''
"""The subcommand `tasks`."""

from app.cli.command import Command, Session


def run(session: Session) -> None:
    """Print the tasks."""
    print("tasks:", *session.data.targets)


COMMAND = Command("List the tasks.", run, parts=("data",))
'''


def test_a_command_is_a_file(
    train_here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """In a folder that counts as that of the commands, so that the program is left as it is."""
    (tmp_path / "tasks.py").write_text(COMMAND)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    train_here("tasks", "--config", str(SMALL))
    assert "tasks: left right sum parity" in capfd.readouterr().out
