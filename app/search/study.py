"""One Optuna study in a file, which processes share, and which outlives them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from app.reports.duration import duration
from app.search.config import SearchConfig
from app.search.space import points
from models.errors import ConfigurationError

BEATS = 4  # signs of life in `stale_after`
PATIENCE = 60  # seconds to wait for another process's write


class TrialError(Exception):
    """A trial that cannot be judged; it counts as one, and the study goes on."""


class SharedStudy:
    """A study in `<folder>/search.db`.

    Whatever decides which trial is next is done by one process at a time, under a lock that the system takes back from
    a process that dies: it finds trials of dead processes, counts, and puts a new point into the queue. So there are
    never more trials than asked for, and none is run twice. What is suggested follows from the seed and the trials so
    far, so a process that is started again does not repeat itself.

    Args:
        folder: Of the runs of this name.
        config: Of the search.
        drawn_from: Key → its distribution.
        maximize: Whether a higher figure is better.
        identity: Key → value of what must be the same for all trials of the study, apart from the space.

    Raises:
        ValueError: There is a study, but of another space, direction or configuration.
    """

    def __init__(
        self,
        folder: Path,
        config: SearchConfig,
        drawn_from: Mapping[str, BaseDistribution],
        maximize: bool,
        identity: Mapping[str, str],
    ) -> None:
        self._drawn_from, self._seed = dict(drawn_from), config.seed
        self._trials = min(config.trials, points(drawn_from))
        self._deadline = inf if config.timeout is None else time.monotonic() + config.timeout
        self._direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        self._again = RetryHeartbeatStaleTrialCallback()  # puts the same trial into the queue, as often as need be
        self._beat, self._number = max(1, config.stale_after // BEATS), -1
        (folder / "search").mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "search" / "lock")
        space = {f"search.space.{key}": repr(each) for key, each in self._drawn_from.items()}
        with self.lock:
            self._storage = RDBStorage(
                f"sqlite:///{folder / 'search.db'}",
                engine_kwargs={"connect_args": {"timeout": PATIENCE}},
                heartbeat_interval=self._beat,
                grace_period=config.stale_after,
                heartbeat_stale_trial_callback=self._again,
            )
            self.study = optuna.create_study(
                storage=self._storage,
                study_name="search",
                direction=self._direction,
                pruner=MedianPruner() if config.pruner == "median" else NopPruner(),
                load_if_exists=True,
            )
            self._check({"direction": self._direction.name.lower(), **space, **identity}, folder)

    def _check(self, settings: Mapping[str, str], folder: Path) -> None:
        """Note what the trials have in common, or compare it with what the study's trials have."""
        if "settings" not in self.study.user_attrs:
            self.study.set_user_attr("settings", dict(settings))
        before = self.study.user_attrs["settings"]
        for key in [*settings, *before]:
            old, new = (each.get(key, "nothing") for each in (before, settings))
            if old != new:
                raise ConfigurationError(
                    key,
                    f"must be what the study in {folder / 'search.db'} was begun with, {old}",
                    f"{new}; another `name` begins another study",
                )

    def run(self, objective: Callable[[Trial], float], shown: Callable[[FrozenTrial], None]) -> None:
        """Run trials until there are enough, also those of other processes, or the time is over.

        Args:
            objective: A trial's figure; raises `TrialError` if it has none.
            shown: Called with every trial of this process that has ended.
        """
        while self._next():
            try:
                self.study.optimize(
                    self._unlocked(objective), n_trials=1, catch=TrialError, callbacks=[lambda _, trial: shown(trial)]
                )
            except (UpdateFinishedTrialError, ValueError):
                if self._number not in lost(self.study.get_trials(deepcopy=False)):
                    raise  # else the trial was taken for dead, as on a computer that slept, and is run again

    def _unlocked(self, objective: Callable[[Trial], float]) -> Callable[[Trial], float]:
        """Let other processes go on as soon as the trial is this one's; put it back if the user ends this process."""

        def run(trial: Trial) -> float:
            self._number = trial.number
            self.lock.release()
            try:
                return objective(trial)
            except KeyboardInterrupt:
                self._again(self.study, self.study.get_trials(deepcopy=False)[trial.number])
                raise

        return run

    def progress(self) -> str:
        """How many of the trials have ended, and how long the others will take, if they take as long on the average."""
        trials = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in lost(trials)]
        seconds = [trial.duration.total_seconds() for trial in ended if trial.duration is not None]
        workers = 1 + sum(trial.state == TrialState.RUNNING for trial in trials)  # this one has just ended its own
        left = fmean(seconds) * (self._trials - len(ended)) / workers
        left = min(left, self._deadline - time.monotonic())
        return f"{len(ended)} of {self._trials}" + (f", {duration(left)} left" if left > 0 else "")

    def _next(self) -> bool:
        """Wait until there is a trial to run, and hold the lock then; False if there is none and will be none."""
        while time.monotonic() < self._deadline:
            with self.lock:
                fail_stale_trials(self.study)
                trials = self.study.get_trials(deepcopy=False)
                if self._waiting() or len(trials) - len(lost(trials)) < self._trials:
                    if not self._waiting():
                        self._propose(trials)
                    for trial in self._waiting():  # Optuna never misses a process that dies before its first sign
                        self._storage.record_heartbeat(trial._trial_id)
                    self.lock.acquire()  # once more, beyond this block
                    return True
            if not any(trial.state == TrialState.RUNNING for trial in trials):
                return False
            time.sleep(self._beat)  # another process's trial, which may yet be lost
        return False

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=[TrialState.WAITING])

    def _propose(self, trials: Sequence[FrozenTrial]) -> None:
        """Put a point into the queue that no trial has had."""
        seed = int(np.random.SeedSequence([self._seed, len(trials)]).generate_state(1)[0])
        tried = [trial.params for trial in trials]
        params = next(params for params in self._points(seed, trials) if params not in tried)
        self.study.add_trial(create_trial(state=TrialState.WAITING, params=params, distributions=self._drawn_from))

    def _points(self, seed: int, trials: Sequence[FrozenTrial]) -> Iterator[dict[str, Any]]:
        """The point that TPE suggests after these trials, then random ones."""
        sampler: BaseSampler
        for sampler in chain([TPESampler(seed=seed)], repeat(RandomSampler(seed=seed))):
            study = optuna.create_study(direction=self._direction, sampler=sampler)
            study.add_trials(trials)
            yield study.ask(self._drawn_from).params


def lost(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """Number of each trial whose process died → of the trial that took its place."""
    after = ((trial, RetryHeartbeatStaleTrialCallback.retry_history(trial)) for trial in trials)
    return {history[-1]: trial.number for trial, history in after if history}
