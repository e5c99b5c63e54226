"""Which tasks err on the same rows: the rule of fully-adaptive feature sharing.

Lu et al., "Fully-Adaptive Feature Sharing in Multi-Task Networks with Applications in Person Attribute Classification"
(2017), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.branching.grouping import Matrix, spectral_groups


def affinity_of_tasks(errors: Matrix) -> Matrix:
    """A_ij = E[e_i e_j + (1 − e_i)(1 − e_j)] over the rows of both labels.

    e_i is 1 where a row is off by at least the mean of task i.

    Args:
        errors: [N, T] |target − score| of each row and task; NaN where there is no label.

    Returns:
        [T, T], 1 on the diagonal; 0 where no row carries both labels.
    """
    labelled = ~np.isnan(errors)
    means = np.where(labelled, errors, 0.0).sum(axis=0) / labelled.sum(axis=0).clip(min=1)
    wrong, right = ((errors >= means) & labelled).astype(float), ((errors < means) & labelled).astype(float)
    both = labelled.T.astype(float) @ labelled
    affinity: Matrix = (wrong.T @ wrong + right.T @ right) / both.clip(min=1)
    np.fill_diagonal(affinity, 1.0)
    return affinity


def affinity_of_branches(tasks: Matrix, branches: Sequence[Sequence[int]]) -> Matrix:
    """½ (mean_{i∈k} min_{j∈l} A_ij + mean_{j∈l} min_{i∈k} A_ij) of branches k and l; 1 on the diagonal.

    Args:
        tasks: A, [T, T].
        branches: the tasks of each.
    """
    one_way = np.array([[tasks[np.ix_(k, el)].min(axis=1).mean() for el in branches] for k in branches])
    affinity: Matrix = (one_way + one_way.T) / 2
    np.fill_diagonal(affinity, 1.0)
    return affinity


def separation(affinity: Matrix, groups: Sequence[Sequence[int]]) -> float:
    """The mean over groups g of 1 − mean_{k∈g} min_{l∈g} A_kl."""
    return float(np.mean([1 - affinity[np.ix_(own, own)].min(axis=1).mean() for own in groups]))


def grouped(affinity: Matrix, cost: float) -> list[list[int]]:
    """The spectral groups of branches, of any number d of them, with the least (d − 1)·cost + separation.

    Args:
        affinity: of the branches, [n, n].
        cost: L₀ 2^p / α.
    """
    candidates = [spectral_groups(affinity, number + 1) for number in range(len(affinity))]
    return min(candidates, key=lambda groups: (len(groups) - 1) * cost + separation(affinity, groups))


def parted(tasks: Matrix, branches: Sequence[Sequence[int]], cost: float) -> list[list[int]]:
    """The tasks of each branch of a stage, of those of the branches above it.

    Args:
        tasks: A, [T, T].
        branches: the tasks of each branch of the stage above; at the top stage, each task alone.
        cost: see `grouped`.
    """
    groups = grouped(affinity_of_branches(tasks, branches), cost)
    return [sorted(task for branch in group for task in branches[branch]) for group in groups]
