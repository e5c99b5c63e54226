"""How well scores tell positive rows from negative ones: exact, every row counts and equal scores are equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["balanced_accuracy", "f1"]


def by_score(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The K different ones of scores [N], ascending, and how many positive and negative rows have each, int64 [K]."""
    values, places = scores.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    positives = torch.bincount(places[positive], minlength=len(values))
    return values, positives, torch.bincount(places, minlength=len(values)) - positives


def ranking_figures(scores: Tensor, positive: Tensor) -> dict[str, Tensor]:
    """`auroc` and `average_precision` of scores [N], float64; nothing where all rows are positive, or none is."""
    if positive.all() or not positive.any():
        return {}
    if scores.isnan().any():
        return dict.fromkeys(("auroc", "average_precision"), torch.tensor(torch.nan, dtype=torch.float64))
    _, positives, negatives = by_score(scores, positive)
    return {
        "auroc": _auroc(positives, negatives),
        "average_precision": _average_precision(positives.flip(0), negatives.flip(0)),
    }


def _auroc(positives: Tensor, negatives: Tensor) -> Tensor:
    """How many of all pairs of a positive and a negative row are in order, equal ones half; counts are ascending."""
    below = negatives.cumsum(0) - negatives
    twice = (positives * (2 * below + negatives)).sum()  # whole numbers, which round nothing
    return twice.double() / (2 * positives.sum() * negatives.sum())


def _average_precision(positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean precision at the score of each positive row; counts are descending."""
    precision = positives.cumsum(0).double() / (positives + negatives).cumsum(0)
    return (positives * precision).sum() / positives.sum()


def best_threshold(scores: Tensor, positive: Tensor, rule: Rule) -> float:
    """Above which of all thresholds rows had best be called positive; midway between the scores around it.

    Of several that are as good, the one that is nearest to one half.

    Args:
        scores: [N], in [0, 1].
        positive: [N] bool, with rows of both kinds.
        rule: What is to be largest: "balanced_accuracy", the mean of both kinds' recall (Youden 1950), or "f1".
    """
    values, positives, negatives = by_score(scores, positive)
    zero = positives.new_zeros(1)
    hits = positives.sum() - torch.cat([zero, positives.cumsum(0)])  # above each of K + 1 thresholds
    alarms = negatives.sum() - torch.cat([zero, negatives.cumsum(0)])
    gains = GAINS[rule](hits, alarms, positives.sum(), negatives.sum())
    least = values.new_tensor([0.0 if values[0] > 0 else -1.0])
    edges = torch.cat([least, values, values.new_ones(1)])
    middle = (edges[:-1] + edges[1:]) / 2
    middle = torch.where(middle < edges[1:], middle, edges[:-1])  # between neighbouring floats there is none
    best = middle[gains == gains.max()]
    return best[(best - 0.5).abs().argmin()].item()


GAINS: dict[Rule, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "balanced_accuracy": lambda hits, alarms, positives, negatives: hits * negatives - alarms * positives,
    "f1": lambda hits, alarms, positives, negatives: 2 * hits.double() / (hits + alarms + positives),
}
