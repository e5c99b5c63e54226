"""One trial: a run of `fit` for each fold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from statistics import fmean

from optuna.exceptions import TrialPruned
from optuna.trial import Trial

from app.runs import RUNS, best_values
from app.search.config import SearchConfig
from app.search.space import values
from app.search.study import TrialError
from app.search.trial_configuration import TrialConfiguration
from models.errors import ConfigurationError

TRAIN = Path(__file__).parents[2] / "train.py"
STOPPED = 130  # exit code of a run that was asked to stop


class FoldsObjective:
    """The mean over the folds of the best value of the monitored validation curve.

    A trial's runs are in `runs/<name>/search/trial_<n>/`, and its figures of folds are saved as they come, so that a
    trial that is run again goes on with the next fold.

    Args:
        base: The configuration that trials start from.
        config: Of the search.
        name: Of the runs.
    """

    def __init__(self, base: TrialConfiguration, config: SearchConfig, name: str) -> None:
        self._base, self._config, self._name = base, config, name

    def __call__(self, trial: Trial) -> float:
        """A trial's figure.

        Raises:
            TrialError: It has none.
            TrialPruned: It is no better than the others.
        """
        try:
            return self._mean(trial)
        except TrialError as error:
            trial.set_user_attr("error", str(error))
            raise

    def _mean(self, trial: Trial) -> float:
        name = f"{self._name}/search/trial_{trial.number}"
        path = RUNS / name / "config.yaml"
        try:
            self._base.write(values(self._config.space, trial.params), path)
        except ConfigurationError as error:
            raise TrialError(str(error)) from error
        figures: list[float] = trial.user_attrs.get("folds", [])
        for fold in range(self._config.folds.k):
            if fold == len(figures):
                figures = [*figures, self._figure(path, f"{name}/fold_{fold}", fold)]
                trial.set_user_attr("folds", figures)
            trial.report(fmean(figures[: fold + 1]), fold)
            if fold + 1 < self._config.folds.k and trial.should_prune():
                raise TrialPruned
        return fmean(figures)

    def _figure(self, config: Path, name: str, fold: int) -> float:
        """Train with a fold for validation; its best value. Its checkpoints are deleted."""
        folder = RUNS / name
        shutil.rmtree(folder, ignore_errors=True)  # of another study of this name, which was deleted
        folder.mkdir(parents=True)
        division = {**asdict(self._config.folds), "fold": fold}
        watch = {"class_path": "app.search.orphan.EndWithParent", "init_args": {"parent": os.getpid()}}
        self._fit(
            folder,
            f"--config={config}",
            f"--name={name}",
            f"--data.folds={json.dumps(division)}",
            f"--trainer.callbacks+={json.dumps(watch)}",
            "--trainer.limit_test_batches=0",
        )
        run = folder / "version_0"
        best = best_values(run)
        shutil.rmtree(run / "checkpoints")
        if not best:
            raise TrialError(f"fold {fold}: must have a validation, but training ended before the first")
        ((monitor, figure),) = best.items()
        if not isfinite(figure):
            raise TrialError(f"fold {fold}: {monitor} must be finite at least once, found {figure}")
        return figure

    def _fit(self, folder: Path, *arguments: str) -> None:
        """Run `fit` in a process of its own, which is asked to stop if this one is."""
        with (folder / "output.txt").open("w") as output, (folder / "errors.txt").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, str(TRAIN), "fit", *arguments], stdout=output, stderr=errors, stdin=subprocess.DEVNULL
            )
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code == STOPPED:
            raise KeyboardInterrupt
        if code:
            lines = (folder / "errors.txt").read_text().strip().splitlines()
            reason = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise TrialError(lines[-1] if lines and code > 0 else reason)
