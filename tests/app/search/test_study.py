"""One study, several processes: none of its trials is lost, repeated or too many."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from forked import WATCHDOG
from optuna.trial import FrozenTrial, Trial, TrialState

from app.search import Dimension, SearchConfig
from app.search.space import distributions
from app.search.study import SharedStudy, TrialError, lost

SPACE = {"x": Dimension(0, 2, integer=True), "y": Dimension(choices=["a", "b", None])}
FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def opened(folder: Path, trials: int = 50, **options) -> SharedStudy:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = SearchConfig(space=SPACE, trials=trials, stale_after=6, **options)
    return SharedStudy(folder, config, distributions(SPACE), maximize=False, identity={"model.width": "3"})


def objective(trial: Trial) -> float:
    time.sleep(0.05)
    if trial.params["y"] == "b" and trial.params["x"] == 2:
        raise TrialError("bad combination")
    return trial.params["x"]


def work(folder: Path, trials: int, dies: bool, waits: bool) -> None:
    def run(trial: Trial) -> float:
        if dies and trial.number > 2:
            (folder / f"died-{trial.number}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while waits and trial.number > 2 and not list(folder.glob("died-*")):
            time.sleep(0.01)  # leave one to the process that dies
        return objective(trial)

    opened(folder, trials).run(run, lambda trial: None)


def run_processes(folder: Path, trials: int, dying: int) -> None:
    processes = [FORK.Process(target=work, args=(folder, trials, i < dying, dying > 0)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WATCHDOG)
    assert sorted(process.exitcode for process in processes) == [-signal.SIGKILL] * dying + [0] * (3 - dying)


def points_of(trials: list[FrozenTrial]) -> list[tuple]:
    return [tuple(sorted(trial.params.items())) for trial in trials]


def test_processes_share_the_trials_and_take_over_those_of_the_dead(tmp_path: Path) -> None:
    run_processes(tmp_path, trials=7, dying=1)
    trials = opened(tmp_path).study.trials
    replaced = lost(trials)
    (died,) = [int(path.name.split("-")[1]) for path in tmp_path.glob("died-*")]
    assert list(replaced) == [died]
    assert trials[died].params == trials[replaced[died]].params
    kept = [trial for trial in trials if trial.number not in replaced]
    assert len(kept) == 7
    assert len(set(points_of(kept))) == 7
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in kept)
    assert len({trial.datetime_start for trial in kept}) == 7


def test_finite_space_ends_when_every_point_was_tried_once(tmp_path: Path) -> None:
    run_processes(tmp_path, trials=1000, dying=0)
    trials = opened(tmp_path).study.trials
    assert len(trials) == len(set(points_of(trials))) == 3 * 3
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert points_of(failed) == [(("x", 2), ("y", "b"))]


def test_process_started_again_does_not_repeat_itself_and_the_seed_decides(tmp_path: Path) -> None:
    opened(tmp_path / "whole", 4).run(objective, lambda trial: None)
    opened(tmp_path / "seed", 4, seed=1).run(objective, lambda trial: None)
    for trials in (2, 4):
        opened(tmp_path / "parts", trials).run(objective, lambda trial: None)
    whole, parts, other = (points_of(opened(tmp_path / name).study.trials) for name in ("whole", "parts", "seed"))
    assert len(set(whole)) == 4
    assert whole == parts
    assert whole != other


def test_interrupted_trial_goes_back_into_the_queue(tmp_path: Path) -> None:
    def interrupted(trial: Trial) -> float:
        trial.set_user_attr("folds", [0.5])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, 1).run(interrupted, lambda trial: None)
    opened(tmp_path, 1).run(lambda trial: trial.user_attrs["folds"][0], lambda trial: None)
    first, second = opened(tmp_path).study.trials
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert lost([first, second]) == {0: 1}
    assert second.value == 0.5
    assert second.params == first.params


def test_trial_taken_for_dead_is_left_to_the_other_process(tmp_path: Path) -> None:
    """As on a computer that slept: the process finds its trial taken, and goes on with the next."""
    first, second = opened(tmp_path, 2), opened(tmp_path, 2)

    def slept(trial: Trial) -> float:
        if trial.number == 0:
            with first.lock:
                frozen = first.study.trials[0]
                first.study._storage.set_trial_state_values(frozen._trial_id, TrialState.FAIL)
                first._again(first.study, frozen)
            trial.set_user_attr("folds", [1.0])
        return 1.0

    first.run(slept, lambda trial: None)
    second.run(objective, lambda trial: None)
    trials = second.study.trials
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert trials[1].params == trials[0].params


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drawn_from": distributions({"x": SPACE["x"]})}, ["search.space.y", "found nothing"]),
        ({"maximize": True}, ["direction", "minimize", "maximize"]),
        ({"identity": {"model.width": "4"}}, ["model.width", "3", "found 4"]),
    ],
)
def test_study_of_other_settings_is_refused(tmp_path: Path, change: dict, words: list[str]) -> None:
    opened(tmp_path)
    settings = {"drawn_from": distributions(SPACE), "maximize": False, "identity": {"model.width": "3"}, **change}
    with pytest.raises(ValueError, match=r"must be what the study in .*search\.db was begun with") as refused:
        SharedStudy(tmp_path, SearchConfig(space=SPACE), **settings)
    for word in words:
        assert word in str(refused.value)
