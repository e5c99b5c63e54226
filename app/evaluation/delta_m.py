"""Δm: how much better than single-task networks, over tasks whose metrics have different units.

Two averages go by this name. Maninis et al. 2019 and LibMTL average over tasks what each task's metrics gain; CAGrad,
Nash-MTL and FAMO average over all metrics what each loses. On NYUv2, whose three tasks have 2, 2 and 5 metrics, they
rank methods differently. Here both are gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.evaluation.intervals import Interval, around

Average = Literal["tasks", "metrics"]
Figures = Mapping[str, Mapping[str, ArrayLike]]  # task → metric → its value in each run
Values = NDArray[np.float64]


def delta_m(
    ours: Figures,
    baseline: Figures,
    higher_is_better: Mapping[str, bool],
    average: Average = "tasks",
    one_run_for_all: bool = False,
) -> Interval | None:
    """Mean relative gain over a baseline, in %, with Welch's interval; None where the baseline has a mean of zero.

    Of tasks i with metrics k it is 100 Σ_ik w_ik σ_ik (M̄_ik − B̄_ik) / B̄_ik, with w = 1 / (T N_i), or 1 / Σ N_i in the
    average over metrics. Its variance is that of the variant's runs and that of the baseline's; to first order, a
    baseline's run moves a term by −σ (B − B̄) / B̄ · M̄ / B̄.

    Args:
        ours: The variant's figures, each run with all tasks.
        baseline: The figures of single-task networks, of the same tasks and metrics.
        higher_is_better: Metric → whether more of it is better.
        average: Over what.
        one_run_for_all: Whether a run of the baseline has all tasks; else each task has runs of its own.
    """
    weights = _weights(baseline, average)
    gains, moves = list[Values](), dict[str, list[Values]]()
    for task, metrics in baseline.items():
        for metric, theirs in metrics.items():
            runs, reference = np.asarray(ours[task][metric], dtype=np.float64), np.asarray(theirs, dtype=np.float64)
            mean = reference.mean()
            if mean == 0:
                return None
            factor = 100 * weights[task] * (1.0 if higher_is_better[metric] else -1.0) / mean
            gains.append(factor * (runs - mean))
            moves.setdefault("" if one_run_for_all else task, []).append(
                factor * (reference - mean) * runs.mean() / mean
            )
    gain = _sum(gains)
    return around(float(gain.mean()), [gain, *map(_sum, moves.values())])


def _weights(figures: Figures, average: Average) -> dict[str, float]:
    """Task → weight of each of its metrics; over all of them they sum to 1."""
    if average == "tasks":
        return {task: 1 / (len(figures) * len(metrics)) for task, metrics in figures.items()}
    return dict.fromkeys(figures, 1 / sum(map(len, figures.values())))


def _sum(terms: Sequence[Values]) -> Values:
    total: Values = np.sum(terms, axis=0)
    return total
