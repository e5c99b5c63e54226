"""Differences of few runs against scipy, by hand, and under no effect."""

import numpy as np
import pytest
from scipy import stats

from app.evaluation import difference, holm, paired_difference


@pytest.mark.parametrize("sizes", [(3, 3), (3, 7), (10, 2)])
def test_difference_is_welchs(sizes: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(1, 1, sizes[0]), draw.normal(0, 3, sizes[1])
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    bounds = expected.confidence_interval()
    found = difference(ours, theirs, higher_is_better=True)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))
    turned = difference(ours, theirs, higher_is_better=False)
    assert (turned.estimate, turned.low, turned.high) == pytest.approx((-found.estimate, -found.high, -found.low))


def test_paired_difference_is_students() -> None:
    ours, theirs = np.array([0.9, 0.8, 0.85]), np.array([0.88, 0.79, 0.8])
    expected = stats.ttest_rel(ours, theirs)
    found = paired_difference(ours, theirs, higher_is_better=True)
    assert (found.estimate, found.p) == pytest.approx(((ours - theirs).mean(), expected.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_one_run_has_no_interval_and_equal_runs_a_point() -> None:
    one = difference([0.9], [0.8, 0.7], higher_is_better=True)
    assert (one.estimate, one.low, one.p) == (pytest.approx(0.15), None, None)
    point = difference([0.9, 0.9], [0.9, 0.9], higher_is_better=True)
    assert (point.low, point.high, point.p) == (0, 0, 1)
    assert difference([1, 1], [0, 0], higher_is_better=True).p == 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_under_no_effect_few_tables_have_a_verdict() -> None:
    """Four tasks, three methods, three seeds: 31 % have one without Holm."""
    draw, tables, single, together = np.random.default_rng(0), 1000, 0, 0
    for _ in range(tables):
        baseline, ours = draw.standard_normal((4, 3)), draw.standard_normal((3, 4, 3))
        values = [difference(ours[m, t], baseline[t], True).p for m in range(3) for t in range(4)]
        single += min(values) <= 0.05
        together += min(holm(values)) <= 0.05
    assert together / tables <= 0.05
    assert 0.2 <= single / tables <= 0.45
