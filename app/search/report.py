"""What came of a search: a table, plots and the best configuration."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from app.search.space import Space, short, short_names, values
from app.search.study import lost
from app.search.trial_configuration import TrialConfiguration
from models.errors import ConfigurationError


def line(trial: FrozenTrial, space: Space) -> str:
    """A trial that has ended, on one line."""
    names = short_names(list(space))
    drawn = ", ".join(f"{names[key]} {short(value)}" for key, value in values(space, trial.params).items())
    outcome = trial.user_attrs.get("error") or figure(trial)
    return f"trial {trial.number} {trial.state.name.lower()}: {outcome} ({drawn})"


def figure(trial: FrozenTrial) -> str:
    """Mean ± standard error over the folds that were trained."""
    folds: list[float] = trial.user_attrs.get("folds", [])
    if len(folds) < 2:
        return f"{folds[0]:.4f}" if folds else ""
    return f"{fmean(folds):.4f} ± {stdev(folds) / sqrt(len(folds)):.4f}"


def report(study: Study, space: Space, base: TrialConfiguration, monitor: str, folder: Path, console: Console) -> None:
    """Print the table, draw the plots, and write `best.yaml`.

    Raises:
        ValueError: No trial has ended well.
    """
    trials = study.get_trials(deepcopy=False)
    console.print(trial_table(trials, space, monitor, study.direction == StudyDirection.MAXIMIZE))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        errors = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
        raise ConfigurationError(
            "search", f"no trial has ended well; the last error: {errors[-1] if errors else 'none'}"
        )
    from app.search.plots import draw  # slow to import, and only needed here

    best = folder / "best.yaml"
    base.write(values(space, study.best_params), best)
    plots = [str(path) for path in draw(study, space, folder)]
    for said in (f"The best trial is {study.best_trial.number}; `fit --config {best}` trains it.", *plots):
        console.print(said, soft_wrap=True, highlight=False, markup=False)


def trial_table(trials: Sequence[FrozenTrial], space: Space, monitor: str, maximize: bool) -> Table:
    """Trials as rows, the best first, then those that did not end well."""
    errors = {trial.number: trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs}
    mean = Column("mean ± s.e.", no_wrap=True)
    result = Table("trial", mean, "folds", "state", *short_names(list(space)).values(), title=f"best {monitor}")
    if errors:
        result.add_column("error")
    replaced = lost(trials)

    def order(trial: FrozenTrial) -> tuple[bool, float]:
        value = fmean(trial.user_attrs.get("folds") or [0])
        return trial.state != TrialState.COMPLETE, -value if maximize else value

    for trial in sorted(trials, key=order):
        state = f"see {replaced[trial.number]}" if trial.number in replaced else trial.state.name.lower()
        folds = str(len(trial.user_attrs.get("folds", [])))
        drawn = map(short, values(space, trial.params).values())
        cells = [str(trial.number), figure(trial), folds, state, *drawn]
        result.add_row(*map(escape, [*cells, errors.get(trial.number, "")] if errors else cells))
    return result
