"""A configuration calls nothing that is not of the kind that its key wants, and has no number without end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL
from jsonargparse import Namespace
from torch import nn

from app.configuration.fitting import Fitting
from models.errors import ConfigurationError

CALLS = {
    "os.system": "{command: touch marker}",
    "subprocess.run": "{args: [touch, marker]}",
    "subprocess.Popen": "{args: [touch, marker]}",
    "subprocess.check_output": "{}",
    "builtins.exec": '{source: \'open("marker", "w")\'}',
    "builtins.eval": '{source: \'open("marker", "w")\'}',
    "builtins.open": "{file: marker, mode: w}",
    "pathlib.Path.touch": "{self: marker}",
    "os.mkdir": "{path: marker}",
    "torch.nn.Linear": "{in_features: 1, out_features: 1}",
    "mine.unannotated": "{}",
    "mine.nothing": "{}",
    "mine.anything": "{}",
    "mine.module": "{}",
}
KEYS = ("model.optimizer", "model.lr_scheduler", "model.backbone", "model.sharing", "model.head", "model.balancer")
MINE = """
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch


def unannotated():
    Path("marker").touch()

def nothing() -> None:
    Path("marker").touch()

def anything() -> Any:
    Path("marker").touch()

def module() -> torch.nn.Module:
    Path("marker").touch()

def slow(momentum: float = 0.5) -> Callable[[Iterable], torch.optim.Optimizer]:
    return lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=momentum)

def forgetful() -> Callable[[Iterable], torch.optim.Optimizer]:
    return None

def wrong() -> Callable[[Iterable], torch.optim.Optimizer]:
    return lambda groups: 3
"""


def refused(train_here: Callable, capfd: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ending:
        train_here("fit", "--config", str(SMALL), "--trainer.fast_dev_run", "true", *arguments)
    assert ending.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def spec(path: str) -> str:
    return f"{{class_path: {path}, init_args: {CALLS[path]}}}"


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("key", KEYS)
def test_what_is_of_another_kind_is_not_called(
    key: str, path: str, train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert key in refused(train_here, capfd, f"--{key}", spec(path))
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "runs").exists()


NESTED = {
    "data.sources": ("--data.sources", "{{mine: {}}}"),
    "data.sampling": ("--data.sampling", "{}"),
    "trainer.callbacks": ("--trainer.callbacks", "[{}]"),
    "trainer.logger": ("--trainer.logger", "{}"),
    "model.backbone": ("--model.backbone", "{{class_path: Projected, init_args: {{backbone: {}, features: 8}}}}"),
    "head": ("--model.tasks.left.head", "{}"),
    "loss": ("--model.tasks.left.loss", "{}"),
    "model.tasks": ("--model.tasks", "{{left: {{task: {}}}}}"),
}


@pytest.mark.parametrize("path", ["os.system", "builtins.exec", "mine.unannotated", "mine.nothing"])
@pytest.mark.parametrize("key", NESTED)
def test_wherever_a_class_is_named(
    key: str, path: str, train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    option, form = NESTED[key]
    assert key in refused(train_here, capfd, option, form.format(spec(path)))
    assert not (tmp_path / "marker").exists()


def test_a_function_that_says_what_it_makes(train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    options = "{class_path: mine.slow, init_args: {momentum: 0.25}}"
    ended = train_here("fit", "--config", str(SMALL), "--trainer.fast_dev_run", "true", "--model.optimizer", options)
    assert ended.trainer.optimizers[0].defaults["momentum"] == 0.25


MADE = {
    "forgetful": "forgetful: TypeError: it returns nothing",
    "wrong": "must make a torch.optim.Optimizer, found int",
}


@pytest.mark.parametrize("name", MADE)
def test_a_function_that_does_not_make_what_it_says(
    name: str, train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    line = refused(train_here, capfd, "--model.optimizer", f"{{class_path: mine.{name}}}")
    assert line.startswith(f"error: model.optimizer: {MADE[name]}")


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "key", ["model.tasks.left.weight", "model.optimizer.lr", "model.layers.decay", "trainer.gradient_clip_val"]
)
def test_a_number_that_is_not_finite(
    key: str, number: str, train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    line = refused(train_here, capfd, f"--{key}={number}")
    assert line == f"error: {key}: must be a finite number, found {number.replace('.', '')}"
    assert not (tmp_path / "runs").exists()


def test_a_seed_that_is_too_large(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    assert "seed_everything" in refused(train_here, capfd, "--seed_everything", str(2**32))


class Endless(nn.Module):
    def __init__(self, bound: float = float("inf"), slope: float = 1.0) -> None:
        super().__init__()
        self.bound, self.slope = bound, slope


def test_a_default_that_is_not_finite_is_the_class_s_own_affair() -> None:
    def check(**options: object) -> None:
        named = {"class_path": f"{__name__}.Endless", "init_args": options}
        Fitting({}).check(Namespace(part=named))

    check(bound=float("inf"), slope=2.0)
    with pytest.raises(ConfigurationError, match=r"part\.slope: must be a finite number"):
        check(bound=1.0, slope=float("nan"))
