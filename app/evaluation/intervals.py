"""Intervals of differences between the means of few runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A difference, of which more is better.

    Attributes:
        estimate: The difference.
        low: Lower end of its 95 % interval; None where a group has a single run.
        high: Upper end.
        p: Two-sided probability of as large a difference between equal means; None as above.
    """

    estimate: float
    low: float | None
    high: float | None
    p: float | None


def difference(ours: ArrayLike, theirs: ArrayLike, higher_is_better: bool) -> Interval:
    """D = σ(M̄ − B̄) of runs M [n] and B [m] whose variances may differ, with Welch's interval."""
    sign = 1.0 if higher_is_better else -1.0
    variant, baseline = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    return around(sign * float(variant.mean() - baseline.mean()), [variant, baseline])


def paired_difference(ours: ArrayLike, theirs: ArrayLike, higher_is_better: bool) -> Interval:
    """The mean of σ(M_r − B_r) over runs r [n] of both, each pair on data that another pair does not have."""
    sign = 1.0 if higher_is_better else -1.0
    pairs = sign * (np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64))
    return around(float(pairs.mean()), [pairs])


def around(estimate: float, samples: Sequence[NDArray[np.float64]]) -> Interval:
    """A sum of independent means with the interval ± t(df, .975) √v.

    v is the sum of the means' variances v_i = s_i² / n_i, and df = v² / Σ v_i² / (n_i − 1) (Welch 1947, Satterthwaite
    1946). Of a single mean that is Student's.

    Args:
        estimate: The sum.
        samples: Of each mean, what it is the mean of, [n_i], up to a sign and a constant.
    """
    sizes = np.array([len(sample) for sample in samples])
    if sizes.min() < 2:
        return Interval(estimate, None, None, None)
    variances = np.array([sample.var(ddof=1) for sample in samples]) / sizes
    total = float(variances.sum())
    if total == 0:
        return Interval(estimate, estimate, estimate, float(estimate == 0))
    freedom = total**2 / float((variances**2 / (sizes - 1)).sum())
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * total**0.5
    p = 2 * float(stats.t.sf(abs(estimate) / total**0.5, freedom))
    return Interval(estimate, estimate - reach, estimate + reach, p)


def holm(probabilities: Sequence[float]) -> list[float]:
    """What the probabilities of a family of comparisons are together (Holm 1979), in their order."""
    count, largest = len(probabilities), 0.0
    adjusted = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=probabilities.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * probabilities[place]))
        adjusted[place] = largest
    return adjusted
