"""Rows are split in the stated proportions, in every stratum, and groups stay whole."""

import re

import numpy as np
import pytest
import torch

from datamodules.sources.cutting import cut
from datamodules.splits.splitting import members_of, split_rows, train_on_all_classes
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel

FRACTIONS = (0.7, 0.15, 0.15)


def table(parts: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Rows of each stratum in each part."""
    return np.array([np.bincount(parts[strata == stratum], minlength=3) for stratum in np.unique(strata)])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fractions", [FRACTIONS, (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.1, 0.2, 0.7)])
def test_every_stratum_gets_its_share_to_within_one_row(seed: int, fractions: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seed)
    strata = rng.permutation(np.repeat(np.arange(-1, 29), rng.integers(1, 40, size=30)))
    parts = split_rows(fractions, strata, seed=seed)
    sizes = np.bincount(strata + 1)
    assert np.abs(table(parts, strata) - np.outer(sizes, fractions)).max() <= 1 + 1e-9
    assert np.abs(np.bincount(parts) - len(strata) * np.array(fractions)).max() < 1


def test_totals_are_exact_where_they_can_be() -> None:
    strata = np.random.default_rng(0).integers(7, size=200)
    assert np.bincount(split_rows(FRACTIONS, strata)).tolist() == [140, 30, 30]


def test_rows_are_shuffled_by_the_seed_alone() -> None:
    strata = np.zeros(1000, dtype=np.int64)
    first, again, other = (split_rows(FRACTIONS, strata, seed=seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).mean() > 0.2
    halves = table(first, np.arange(1000) // 500)
    assert np.abs(halves[0] - halves[1]).max() < 60  # not the first 700 rows


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_sizes_and_strata_near_the_fractions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(rng.permutation(1000)[:200], rng.integers(1, 21, size=200)))
    strata = rng.integers(3, size=len(groups))
    parts = split_rows(FRACTIONS, strata, groups, seed)
    assert all(len(set(parts[groups == group])) == 1 for group in np.unique(groups))
    assert np.abs(np.bincount(parts) / len(groups) - FRACTIONS).max() < 0.005
    assert np.abs(table(parts, strata) / np.bincount(strata)[:, None] - FRACTIONS).max() < 0.03
    assert (parts == split_rows(FRACTIONS, strata, groups, seed)).all()


def test_strata_of_groups_of_one_class_each() -> None:
    """Of 90 groups, every tenth is of the rare class: sizes alone would not put these where they belong."""
    groups = np.repeat(np.arange(90), 5)
    strata = (groups % 9 == 0).astype(np.int64)
    found = table(split_rows((0.6, 0.2, 0.2), strata, groups), strata)
    assert found.tolist() == [[240, 80, 80], [30, 10, 10]]


@pytest.mark.parametrize("sizes", [(50, 3, 1), (10, 10, 10)])
def test_three_groups_are_enough(sizes: tuple[int, ...]) -> None:
    groups = np.repeat(np.arange(3), sizes)
    parts = split_rows(FRACTIONS, groups * 0, groups)
    assert sorted(np.unique(groups * 10 + parts) % 10) == [0, 1, 2]  # three pairs of a group and a part


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("group", [1, 3])
def test_no_class_is_left_out_of_training(seed: int, group: int) -> None:
    strata = np.repeat([0, 1, 2, 3, 4, 5], [200, 1, 1, 1, 2, 1])
    strata = strata[np.random.default_rng(seed).permutation(len(strata))]
    groups = None if group == 1 else np.arange(len(strata)) // group
    members = [(np.arange(len(strata)), strata)]
    for drawn_by in (strata, strata * 0):
        parts = split_rows(FRACTIONS, drawn_by, groups, seed, members)
        assert set(strata[parts == 0]) == set(range(6))
        assert set(parts) == {0, 1, 2}
        assert groups is None or all(len(set(parts[groups == each])) == 1 for each in groups)


@pytest.mark.parametrize("seed", range(10))
def test_a_cut_trains_the_classes_of_its_strata_or_those_given(seed: int) -> None:
    strata = torch.tensor([-1, *[0] * 30, *range(1, 9)])
    train = cut(["train"], FRACTIONS, strata, seed)["train"]
    assert set(strata[train].tolist()) - {-1} == set(range(9))
    other = (np.array([3, 38]), np.array([0, 1]))
    assert {3, 38} <= set(cut(["train"], FRACTIONS, strata * 0, seed, [other])["train"].tolist())


def test_only_the_first_row_of_a_missing_class_moves_and_no_part_is_emptied() -> None:
    parts = np.array([0, 0, 1, 1, 1, 2])
    train_on_all_classes(parts, [(np.array([0, 2, 3, 4]), np.array([7, 9, 7, 9]))])
    assert parts.tolist() == [0, 0, 0, 1, 1, 2]
    train_on_all_classes(parts, [(np.array([5]), np.array([1])), (np.array([3]), np.array([1]))])
    assert parts.tolist() == [0, 0, 0, 0, 1, 2]


def test_classes_of_rows_by_every_kind_of_target() -> None:
    yes = torch.tensor([True, True, False])
    targets = {"k": Categorical(("a", "b")), "b": Binary(), "m": MultiLabel(("u", "v")), "x": Continuous()}
    labels = {
        "k": torch.tensor([1, 0, 0]),
        "b": torch.tensor([0.0, 1.0, 1.0]),
        "m": torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]),
        "x": torch.zeros(3),
    }
    found = members_of(targets, labels, dict.fromkeys(labels, yes))
    assert [(rows.tolist(), classes.tolist()) for rows, classes in found] == [
        ([0, 1], [1, 0]),
        ([0, 1], [0, 1]),
        ([0, 0], [0, 1]),
    ]


@pytest.mark.parametrize(
    ("fractions", "rows", "groups", "message"),
    [
        ((0.7, 0.2, 0.2), 10, None, "`fractions` must be positive and add up to 1, found [0.7, 0.2, 0.2]"),
        ((1.2, -0.1, -0.1), 10, None, "`fractions` must be positive and add up to 1, found [1.2, -0.1, -0.1]"),
        ((0.8, 0.2, 0.0), 10, None, "`fractions` must be positive and add up to 1, found [0.8, 0.2, 0.0]"),
        (FRACTIONS, 3, None, "`fractions` must give each split a row, found [0.7, 0.15, 0.15] of 3 rows"),
        (FRACTIONS, 6, [0, 0, 0, 1, 1, 1], "`group` must have a group for each of 3 splits, found 2"),
    ],
)
def test_refused(fractions: tuple[float, ...], rows: int, groups: list[int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        split_rows(fractions, np.zeros(rows, dtype=np.int64), None if groups is None else np.array(groups))
