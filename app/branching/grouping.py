"""Groups of things that are alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

Matrix = NDArray[np.float64]


def spectral_groups(affinity: Matrix, groups: int) -> list[list[int]]:
    """Things in so many groups, or fewer, such that affinities within are large and those between are small.

    Of the eigenvectors of D^−½ A D^−½ that belong to the largest eigenvalues, each thing has a row; those with the
    same direction are a group (Damle, Minden & Ying, "Simple, direct and efficient multi-way spectral clustering",
    2019, algorithm 1): by pivots and not from random starts, so that every rank finds the same.

    Args:
        affinity: [n, n] symmetric, not negative, and every thing has some.
        groups: from 1 to n.

    Returns:
        The numbers of the things of each group, in the order of the first ones.
    """
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    vectors = np.linalg.eigh(scale[:, None] * affinity * scale)[1][:, -groups:]
    pivots = qr(vectors.T, pivoting=True, mode="r")[1][:groups]
    left, _, right = np.linalg.svd(vectors[pivots].T)
    labels: list[int] = np.abs(vectors @ (left @ right)).argmax(axis=1).tolist()
    return [[thing for thing, own in enumerate(labels) if own == label] for label in dict.fromkeys(labels)]
