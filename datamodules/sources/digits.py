"""Overlaid handwritten digits, the built-in dataset."""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.memory import TensorSplit
from datamodules.sources.split import SPLITS, SplitName
from datamodules.splits.folds import Folds, repaired
from datamodules.splits.splitting import Integers
from datamodules.targets import Binary, Categorical, Continuous, Target

SCAN, CANVAS, WHITE = 8, 12, 16.0


class Digits(Source):
    """Pairs of scikit-learn's 1,797 scanned digits, overlaid as in Multi-MNIST (Sabour et al. 2017).

    One scan lies at the top left of a 12×12 canvas, a different one at the bottom right; where they meet, the brighter
    pixel counts. Tasks: `left` and `right` (which digit), `sum` of the two (continuous) and `parity` (are both even or
    both odd). The scans are split before they are paired, so that no scan is in two splits, and not in training and
    validation of a fold.

    Args:
        train_pairs: Samples for training.
        val_pairs: Samples for validation.
        test_pairs: Samples for the test.
        seed: Which scans go into which split, and which are paired. Not the seed of the training run.
        tasks: Those that there are; null for all four.

    Raises:
        ValueError: There is no such task, or none is wanted.
    """

    def __init__(
        self,
        train_pairs: int = 20_000,
        val_pairs: int = 2_000,
        test_pairs: int = 5_000,
        seed: int = 0,
        tasks: list[str] | None = None,
    ) -> None:
        digits = tuple(str(digit) for digit in range(10))
        targets: dict[str, Target] = {
            "left": Categorical(digits),
            "right": Categorical(digits),
            "sum": Continuous(),
            "parity": Binary(("different", "same")),
        }
        wanted = list(targets) if tasks is None else tasks
        if not wanted or not set(wanted) <= set(targets):
            raise DataError("data.sources", f"tasks of Digits must be among {list(targets)}", wanted)
        self.targets = {task: targets[task] for task in wanted}
        scans, digit = load_digits(return_X_y=True)
        train, rest = train_test_split(np.arange(len(digit)), train_size=0.7, stratify=digit, random_state=seed)
        val, test = train_test_split(rest, train_size=0.5, stratify=digit[rest], random_state=seed)
        self._images, self._digits = (
            torch.from_numpy(scans / WHITE).float().view(-1, SCAN, SCAN),
            torch.from_numpy(digit),
        )
        self._seed, self._scans, self._pairs = seed, np.concatenate([train, val]), train_pairs + val_pairs
        self._splits = {}
        for number, (name, rows, pairs) in enumerate(
            zip(SPLITS, (train, val, test), (train_pairs, val_pairs, test_pairs), strict=True)
        ):
            self._splits[name] = self._paired(rows, pairs, (seed, number))

    def split(self, name: SplitName) -> TensorSplit:
        """Inputs are [N, 1, 12, 12] in [0, 1]."""
        return self._splits[name]

    def folded(self, folds: Folds) -> Digits:
        """These digits; the scans of training and validation are divided, and then paired anew, as often in all."""
        held_out = folds.held_out_scans(self._digits[self._scans], folds.stratify in self.targets).numpy()
        parts = zip(SPLITS[:2], (~held_out, held_out), repaired(self._pairs, folds), strict=True)
        key = (self._seed, folds.seed, folds.k, folds.fold)
        source = copy.copy(self)
        source._splits = dict(self._splits)
        for number, (name, part, pairs) in enumerate(parts):
            source._splits[name] = self._paired(self._scans[part], pairs, (*key, number))
        return source

    def _paired(self, rows: Integers, pairs: int, key: tuple[int, ...]) -> TensorSplit:
        """Pairs of the scans `rows`, drawn from `key`."""
        canvas, labels = _overlay(self._images[rows], self._digits[rows], pairs, np.random.default_rng(key))
        return TensorSplit(canvas, {task: labels[task] for task in self.targets})


def _overlay(scans: Tensor, digits: Tensor, pairs: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw `pairs` ordered pairs of two different `scans` [N, 8, 8] and overlay them; with the labels of all tasks."""
    left = torch.from_numpy(rng.integers(len(scans), size=pairs))
    right = (left + torch.from_numpy(rng.integers(1, len(scans), size=pairs))) % len(scans)
    canvas = torch.zeros(pairs, 1, CANVAS, CANVAS)
    canvas[:, 0, :SCAN, :SCAN] = scans[left]
    corner = canvas[:, 0, -SCAN:, -SCAN:]
    torch.maximum(corner, scans[right], out=corner)
    first, second = digits[left], digits[right]
    labels = {
        "left": first,
        "right": second,
        "sum": (first + second).float(),
        "parity": ((first + second) % 2 == 0).float(),
    }
    return canvas, labels
