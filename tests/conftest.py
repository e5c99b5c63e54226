"""Runs of the real command line."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import WATCHDOG, Forks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.cli import PolyheadCLI, main

torch.set_num_threads(1)  # the networks are tiny, and two runs share two cores

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "tests" / "small.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
    if "PYTEST_XDIST_WORKER" in os.environ:  # files that run most first, so that both processes end together
        runs = Counter(item.path for item in items if RUNS & {*item.fixturenames})
        items.sort(key=lambda item: -runs[item.path])


RUNS = {"train", "train_here", "train_afresh", "forks"}


def slow_but(cases: Iterable[str], *fast: str) -> list[Any]:
    """Parameters of a matrix, of which `fast` alone are not slow."""
    return [case if case in fast else pytest.param(case, marks=pytest.mark.slow) for case in cases]


Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Scripts in processes of their own, on one or several ranks, in the current folder."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def train(forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train.py` in a process of its own, or in several ranks, called from a folder outside the repository."""
    monkeypatch.chdir(tmp_path)
    return forks


@pytest.fixture
def train_afresh(tmp_path: Path) -> Train:
    """The same as a user starts it: Python begins anew, and Lightning launches the ranks."""

    def run(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
            start_new_session=True,  # a signal to its group is not for the tests
        )
        assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def train_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PolyheadCLI]]:
    """The same in this process, for speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "tests")])
    monkeypatch.setattr(sys, "argv", ["train.py"])
    before = set(sys.modules)
    yield lambda *arguments: main(list(arguments))
    for name in set(sys.modules) - before:  # another test may write a file of the same name
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag → (step, value) of every point in a run's event files, read back."""
    points: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            points.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return points


def steps(folder: Path, rank: int = 0) -> list[dict]:
    """What `spies.RecordSteps` wrote."""
    return [json.loads(line) for line in (folder / f"steps-{rank}.jsonl").read_text().splitlines()]
