"""Cross-validation: the rows for training and validation, divided anew."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold
from torch import Tensor

from datamodules.errors import DataError
from datamodules.splits.splitting import Members, train_on_all_classes
from datamodules.targets import Target


@dataclass
class Folds:
    """One of k folds: of the rows for training and validation together, a k-th is for validation, the rest to train.

    Rows of a group stay together where the source has groups. The test split is left as it is. A class with all of its
    rows in one fold keeps the first of them in training.

    Args:
        k: Number of folds.
        fold: Which of them is for validation, from 0 to k - 1.
        stratify: A task with classes, of which each fold gets its share, and of the rows without a label too. A source
            that does not carry it is divided without.
        seed: Of the division, the same for all folds of it. Not the seed of the training run.
    """

    k: int
    fold: int
    stratify: str | None = None
    seed: int = 0

    def check(self, targets: Mapping[str, Target]) -> None:
        """Refuse what cannot be, whatever the rows.

        Raises:
            ValueError: There is no such fold or task with classes.
        """
        if self.k < 2:
            raise DataError("data.folds.k", "must be at least 2", self.k)
        if not 0 <= self.fold < self.k:
            raise DataError("data.folds.fold", f"must be from 0 to {self.k - 1}", self.fold)
        known = [task for task, target in targets.items() if target.exclusive]
        if self.stratify is not None and self.stratify not in known:
            raise DataError("data.folds.stratify", f"must be a task with classes, one of {known}", repr(self.stratify))

    def held_out_scans(self, classes: Tensor, stratified: bool) -> Tensor:
        """Which scans are for validation, bool [N], where rows are made of several: rows that share one are not enough.

        Pairs at random connect all scans, so that no division of the pairs parts them.

        Args:
            classes: [N] the class of each scan.
            stratified: Whether each fold gets its share of every class.

        Raises:
            ValueError: There are more folds than scans, than scans of the largest class, or than two for each.
        """
        members = [(np.arange(len(classes)), classes.numpy())]
        held_out = self.held_out(len(classes), classes if stratified else None, members=members)
        if held_out.sum() < 2:
            found = f"{self.k} folds of {len(classes)} scans"
            raise DataError("data.folds.k", "must leave two scans to each fold", found)
        return held_out

    def held_out(
        self,
        rows: int,
        strata: Tensor | None = None,
        groups: Tensor | None = None,
        members: Sequence[Members] = (),
    ) -> Tensor:
        """Which of `rows` are for validation, bool [N].

        A class whose rows are all in the fold keeps its first row (with its group) in training.

        Args:
            rows: Their number N.
            strata: [N] numbers of their strata.
            groups: [N] numbers of their groups.
            members: Their classes, by task.

        Raises:
            ValueError: There are more folds than rows, than groups, or than rows of the largest stratum.
        """
        limits = {"rows": rows}
        if groups is not None:
            limits["groups"] = len(np.unique(groups.numpy()))
        if strata is not None:
            limits["rows of the most frequent class"] = int((strata + 1).bincount().max())
        for name, number in limits.items():
            if number < self.k:
                raise DataError("data.folds.k", f"must be at most the {number} {name} of train and val", self.k)
        options = {"n_splits": self.k, "shuffle": True, "random_state": self.seed}
        if groups is None:
            division = KFold(**options) if strata is None else StratifiedKFold(**options)
        else:
            division = GroupKFold(**options) if strata is None else StratifiedGroupKFold(**options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds
            _, chosen = next(islice(division.split(torch.zeros(rows), strata, groups), self.fold, None))
        parts = np.zeros(rows, dtype=np.int64)
        parts[chosen] = 1
        train_on_all_classes(parts, members, None if groups is None else groups.numpy())
        return torch.from_numpy(parts == 1)


def repaired(total: int, folds: Folds) -> tuple[int, int]:
    """How many of `total` pairs the training and the validation of a fold have, which pair their scans anew."""
    val = total // folds.k + (folds.fold < total % folds.k)
    return total - val, val


def strata_of(target: Target, labels: Tensor, labelled: Tensor) -> Tensor:
    """Class numbers [N] by the `labels` [N, ...] of an exclusive target, -1 for those not `labelled` [N]."""
    strata = torch.full((len(labels),), -1)
    carried = labelled.nonzero().squeeze(1)
    rows, classes = target.members(labels[carried])
    strata[carried[rows]] = classes
    return strata
