"""The built-in dataset, rebuilt from scikit-learn's scans."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from datamodules.sources import SPLITS, Digits, SplitName

SCANS, DIGITS = load_digits(return_X_y=True)
SCANS = SCANS.reshape(-1, 8, 8).astype(np.uint8)
TOP_LEFT, BOTTOM_RIGHT = np.ones((2, 8, 8), dtype=bool)
TOP_LEFT[4:, 4:] = False  # where a scan at the top left is not covered by one at the bottom right
BOTTOM_RIGHT[:4, :4] = False


@cache
def digits() -> Digits:
    return Digits(train_pairs=4000, val_pairs=1500, test_pairs=1500)


@cache
def pairs(name: SplitName) -> tuple[np.ndarray, np.ndarray]:
    """Which scan lies where, found by its uncovered pixels."""
    canvas = (digits().split(name).inputs * 16).round().numpy().astype(np.uint8)[:, 0]
    found = []
    for corner, mask in ((canvas[:, :8, :8], TOP_LEFT), (canvas[:, 4:, 4:], BOTTOM_RIGHT)):
        scan_of = {scan[mask].tobytes(): number for number, scan in enumerate(SCANS)}
        assert len(scan_of) == len(SCANS)
        found.append(np.array([scan_of[image[mask].tobytes()] for image in corner]))
    return found[0], found[1]


@pytest.mark.parametrize("name", SPLITS)
def test_scans_lie_in_their_corners_and_the_brighter_pixel_counts(name: SplitName) -> None:
    left, right = pairs(name)
    canvas = np.zeros((2, len(left), 1, 12, 12), dtype=np.float32)
    canvas[0, :, 0, :8, :8], canvas[1, :, 0, 4:, 4:] = SCANS[left], SCANS[right]
    assert np.array_equal(digits().split(name).inputs.numpy(), canvas.max(axis=0) / 16)


@pytest.mark.parametrize("name", SPLITS)
def test_labels_say_what_the_scans_show(name: SplitName) -> None:
    source, (left, right) = digits(), [DIGITS[scans] for scans in pairs(name)]
    expected = {"left": left, "right": right, "sum": left + right, "parity": left % 2 == right % 2}
    split = source.split(name)
    assert list(source.targets) == list(expected)
    for task, values in expected.items():
        labels = split.labels(task)
        assert labels.dtype == (torch.int64 if task in ("left", "right") else torch.float32)
        assert np.array_equal(labels.numpy(), values)
        assert split.labelled[task].all()
    split.check(source.targets)


def test_no_scan_is_in_two_splits_and_all_are_used() -> None:
    train, val, test = (set(np.concatenate(pairs(name)).tolist()) for name in SPLITS)
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train) + len(val) + len(test) > 0.99 * len(SCANS)


@pytest.mark.parametrize("name", SPLITS)
def test_every_pair_is_of_two_different_scans(name: SplitName) -> None:
    left, right = pairs(name)
    assert (left != right).all()
    assert len(set(zip(left.tolist(), right.tolist(), strict=True))) > 0.9 * len(left)


def test_sizes_are_those_asked_for() -> None:
    source = Digits(train_pairs=5, val_pairs=3, test_pairs=2)
    assert [len(source.split(name)) for name in SPLITS] == [5, 3, 2]
    assert source.split("train").inputs.shape == (5, 1, 12, 12)


def test_reproducible_from_its_seed_alone() -> None:
    def build(seed: int) -> Digits:
        np.random.seed(seed + 99)
        torch.manual_seed(seed + 99)
        return Digits(50, 50, 50, seed=1)

    for name in SPLITS:
        one, two, other = (source.split(name) for source in (build(0), build(5), Digits(50, 50, 50, seed=2)))
        assert torch.equal(one.inputs, two.inputs)
        assert not torch.equal(one.inputs, other.inputs)
        assert all(torch.equal(one.labels(task), two.labels(task)) for task in ("left", "right", "sum", "parity"))


def test_tasks_may_be_chosen() -> None:
    source = Digits(5, 3, 2, tasks=["sum", "left"])
    assert list(source.targets) == ["sum", "left"]
    assert torch.equal(source.split("train").labels("sum"), Digits(5, 3, 2).split("train").labels("sum"))
    for wrong in (["middle"], []):
        with pytest.raises(ValueError, match=r"tasks of Digits must be among \['left', .*, found \["):
            Digits(5, 3, 2, tasks=wrong)
