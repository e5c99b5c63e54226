"""Optuna's plots of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
from optuna import Study
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import matplotlib as visualization

from app.runs import whole_file
from app.search.space import Space, short, short_names, text


def draw(study: Study, space: Space, folder: Path) -> list[Path]:
    """Draw the history, a slice for each parameter and, from two finished trials, their importances.

    Returns:
        The files.
    """
    plt.switch_backend("Agg")
    shown = _for_people(study, space)
    plots: dict[str, tuple[Callable[[Study], Any], float]] = {  # file → plot, its width in inches
        "history": (visualization.plot_optimization_history, 8),
        "slices": (visualization.plot_slice, 4.5 * len(space) + 1.5),
    }
    if len(shown.trials) > 1:
        plots["importances"] = visualization.plot_param_importances, 8
    paths = [folder / f"{name}.png" for name in plots]
    for (plot, width), path in zip(plots.values(), paths, strict=True):
        plot(shown)
        plt.gcf().set_size_inches(width, 5)
        with whole_file(path) as file:
            plt.savefig(file, dpi=100, bbox_inches="tight")
        plt.close()
    return paths


def _for_people(study: Study, space: Space) -> Study:
    """The finished trials, their keys and choices shortened."""
    copy = optuna.create_study(direction=study.direction)
    copy.add_trials(
        _shortened(trial, space) for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    )
    return copy


def _shortened(trial: FrozenTrial, space: Space) -> FrozenTrial:
    params, distributions = {}, {}
    for key, name in short_names(list(space)).items():
        params[name], distributions[name] = trial.params[key], trial.distributions[key]
        if (choices := space[key].choices) is not None:
            labels = {text(choice): short(choice) for choice in choices}
            if len(set(labels.values())) == len(labels):
                params[name] = labels[trial.params[key]]
                distributions[name] = CategoricalDistribution(list(labels.values()))
    return create_trial(value=trial.value, params=params, distributions=distributions)
