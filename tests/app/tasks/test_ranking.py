"""Figures of scores, and thresholds, against scikit-learn and against all thresholds tried one by one."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score
from torch import Tensor

from app.tasks.ranking import Rule, best_threshold, ranking_figures

RULES = {"balanced_accuracy": balanced_accuracy_score, "f1": lambda y, said: f1_score(y, said, zero_division=0)}


def rows(seed: int, size: int = 60, grid: int = 12, share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Scores with many ties, and rare positives."""
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(size, generator=generator) < share
    positive[:2] = torch.tensor([True, False])
    scores = torch.rand(size, generator=generator, dtype=torch.float64) * 0.7 + positive * 0.3
    return (scores * grid).round() / grid, positive


@pytest.mark.parametrize("seed", range(20))
def test_they_are_those_of_scikit_learn_with_ties(seed: int) -> None:
    scores, positive = rows(seed)
    figures = ranking_figures(scores, positive)
    assert figures["auroc"].item() == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert figures["average_precision"].item() == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


def test_a_hundred_thousand_rows_are_exact_too() -> None:
    scores, positive = rows(0, size=100_000, grid=10**9, share=0.01)
    figures = ranking_figures(scores, positive)
    assert figures["auroc"].item() == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert figures["average_precision"].item() == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


@pytest.mark.parametrize("value", [True, False])
def test_of_one_class_alone_there_are_none(value: bool) -> None:
    assert ranking_figures(torch.rand(5), torch.full((5,), value)) == {}


def test_those_of_no_number_are_no_numbers() -> None:
    figures = ranking_figures(torch.tensor([0.1, torch.nan]), torch.tensor([True, False]))
    assert np.isnan([figure.item() for figure in figures.values()]).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(10))
def test_no_other_threshold_is_better(seed: int, rule: Rule) -> None:
    scores, positive = rows(seed)
    found = RULES[rule](positive, scores > best_threshold(scores, positive, rule))
    others = [RULES[rule](positive, scores > threshold) for threshold in np.linspace(-0.1, 1.1, 241)]
    assert found == pytest.approx(max(others), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([0.1, 0.3, 0.9], [False, True, True], 0.2),
        ([0.1, 0.8, 0.9], [False, False, True], 0.85),
        ([0.0, 0.0, 1.0], [False, True, True], 0.5),
        ([0.0, 1.0, 1.0], [False, True, False], 0.5),
    ],
)
def test_it_is_midway(scores: list[float], positive: list[bool], expected: float) -> None:
    given = torch.tensor(scores, dtype=torch.float64), torch.tensor(positive)
    assert best_threshold(*given, "balanced_accuracy") == pytest.approx(expected)


def test_of_several_that_are_as_good_it_is_the_one_nearest_to_one_half() -> None:
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.6, 0.7], dtype=torch.float64)
    positive = torch.tensor([False, True, False, True, False, True])
    assert best_threshold(scores, positive, "balanced_accuracy") == pytest.approx(0.65)


def test_it_divides_neighbouring_floats() -> None:
    lower = torch.tensor(0.3, dtype=torch.float64)
    upper = torch.nextafter(lower, torch.ones_like(lower))
    threshold = best_threshold(torch.stack([lower, upper]), torch.tensor([False, True]), "f1")
    assert (lower <= threshold < upper).item()


def test_yes_to_everything_may_be_best() -> None:
    scores = torch.tensor([0.0, 0.5, 0.6], dtype=torch.float64)
    assert best_threshold(scores, torch.tensor([True, True, False]), "f1") < 0
