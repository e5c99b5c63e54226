"""A real search: on one process, and on two, one of them killed and started again."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from conftest import ROOT, SMALL
from forked import WATCHDOG, Forks
from optuna.trial import FrozenTrial, TrialState

from app.search.study import lost

SPACE = """
search:
  space:
    data.sampling.init_args.batch_size: {{choices: {choices}}}
  folds: {{k: 2, stratify: left}}
  trials: 50
  stale_after: 20
"""
ARGUMENTS = ("--config", str(SMALL), "--config", "space.yaml", "--trainer.max_epochs", "1")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
FINISHED = (TrialState.COMPLETE, TrialState.FAIL)


@dataclass
class Searched:
    folder: Path
    choices: list[int]
    finished_at_kill: list[FrozenTrial]
    output: str

    @property
    def trials(self) -> list[FrozenTrial]:
        return trials_of(self.folder)


def trials_of(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/runs/small/search.db").trials


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "search", *ARGUMENTS],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module", params=[[32, 0], pytest.param([32, 16, 0], marks=pytest.mark.slow)])
def searched(request: pytest.FixtureRequest, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search over batch sizes, of which 0 fails; by two processes where there are three."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "space.yaml").write_text(SPACE.format(choices=request.param))
    if len(request.param) == 2:
        with contextlib.chdir(folder):
            return Searched(folder, request.param, [], forks("search", *ARGUMENTS).stdout)
    killed, other = start(folder), start(folder)
    until = time.monotonic() + WATCHDOG
    while not (folder / "runs/small/search/trial_2").exists():  # one trial has ended, and two are under way
        assert time.monotonic() < until
        time.sleep(0.1)
    finished = [trial for trial in trials_of(folder) if trial.state in FINISHED]
    assert finished
    killed.kill()
    killed.wait()
    again = start(folder)
    output = ""
    for process in (other, again):
        output, _ = process.communicate(timeout=WATCHDOG)
        assert process.returncode == 0, output
    return Searched(folder, request.param, finished, output)


def test_no_trial_is_lost_repeated_or_too_many(searched: Searched) -> None:
    trials = searched.trials
    for before in searched.finished_at_kill:
        assert trials[before.number] == before
    replaced = lost(trials)
    assert len(replaced) == bool(searched.finished_at_kill)
    kept = [trial for trial in trials if trial.number not in replaced]
    sizes = [int(trial.params["data.sampling.init_args.batch_size"]) for trial in kept]
    assert sorted(sizes) == sorted(searched.choices)


def test_every_trial_says_how_many_there_are(searched: Searched) -> None:
    if len(searched.choices) == 2:  # of several processes each says its own
        said = re.findall(
            r"^\[(\d) of (\d)(, [\d.]+ s left)?\] trial \d+ (complete|fail): ", searched.output, re.MULTILINE
        )
        assert [(done, of, bool(left)) for done, of, left, _ in said] == [("1", "2", True), ("2", "2", False)]


def test_trial_is_the_mean_over_folds_that_no_one_trained_twice(searched: Searched) -> None:
    replaced = lost(searched.trials)
    complete = [trial for trial in searched.trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == len(searched.choices) - 1
    before = {after: number for number, after in replaced.items()}
    for trial in complete:
        numbers = [trial.number, *([before[trial.number]] if trial.number in before else [])]
        runs = [
            searched.folder / f"runs/small/search/trial_{number}/fold_{fold}" for fold in range(2) for number in numbers
        ]
        results = [
            json.loads((run / "version_0/results.json").read_text()) for run in runs if list(run.glob("*/results.json"))
        ]
        assert [each["best"]["loss/val/total"] for each in results] == trial.user_attrs["folds"]
        assert not list(searched.folder.glob(f"runs/small/search/trial_{trial.number}/*/*/checkpoints"))
        assert trial.value == pytest.approx(sum(trial.user_attrs["folds"]) / 2)
        assert trial.intermediate_values == {0: trial.user_attrs["folds"][0], 1: trial.value}
        assert [each["tasks"] for each in results] == [{}, {}]  # the test split was left alone
    figures = [figure for trial in complete for figure in trial.user_attrs["folds"]]
    assert len({*figures}) == 2 * len(complete)


def test_trial_that_fails_is_recorded_with_its_error(searched: Searched) -> None:
    failed = [trial for trial in searched.trials if "error" in trial.user_attrs]
    assert [trial.state for trial in failed] == [TrialState.FAIL]
    assert failed[0].params["data.sampling.init_args.batch_size"] == "0"
    assert failed[0].user_attrs["error"] == "error: data.sampling.batch_size: must be at least 1, found 0"


def test_report_and_best_configuration(
    searched: Searched, train_here: Callable, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    best = min((trial for trial in searched.trials if trial.value is not None), key=lambda trial: trial.value)
    folder = searched.folder / "runs/small/search"
    rows = [line.split("│")[1:-1] for line in searched.output.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows if row[0].strip()]
    assert cells[0][0] == str(best.number)
    assert cells[0][1].startswith(f"{best.value:.4f} ± ")
    assert cells[0][2:4] == ["2", "complete"]
    assert len(cells) == len(searched.trials)
    several = {"importances.png"} if len(searched.choices) > 2 else set()
    assert {path.name for path in folder.glob("*.png")} == {"history.png", "slices.png"} | several
    assert all(path.stat().st_size > 5000 for path in folder.glob("*.png"))

    cli = train_here("fit", "--config", str(folder / "best.yaml"), "--trainer.fast_dev_run", "1")
    config = cli.config["fit"]
    assert config.data.sampling.init_args.batch_size == int(best.params["data.sampling.init_args.batch_size"])
    assert config.data.folds is None
    assert (config.name, config.trainer.max_epochs, config.trainer.limit_test_batches) == ("small", 1, None)

    monkeypatch.chdir(searched.folder)
    before = searched.trials
    train_here("search", *ARGUMENTS)  # all is done: shows it again
    assert f"The best trial is {best.number}" in capfd.readouterr().out
    assert searched.trials == before


def test_run_ends_when_its_search_is_gone(train_here: Callable, tmp_path: Path) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    watch = {"class_path": "app.search.orphan.EndWithParent", "init_args": {"parent": 1 + os.getppid()}}
    try:
        with pytest.raises(SystemExit) as stopped:
            train_here("fit", "--config", str(SMALL), f"--trainer.callbacks+={json.dumps(watch)}")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert stopped.value.code == 130
    assert (tmp_path / "runs/small/version_0/checkpoints/last.ckpt").exists()


def test_folds_that_the_data_cannot_be_divided_into(train_here: Callable, tmp_path: Path, capfd) -> None:
    (tmp_path / "space.yaml").write_text(SPACE.format(choices=[32]))
    with pytest.raises(SystemExit) as stopped:
        train_here("search", *ARGUMENTS, "--search.folds.k", "1")
    assert stopped.value.code == 2
    assert "folds.k: must be at least 2, found 1" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()
