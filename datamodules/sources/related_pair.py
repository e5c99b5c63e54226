"""Two regression tasks whose likeness is chosen."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch

from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.memory import TensorSplit
from datamodules.sources.split import SPLITS, SplitName
from datamodules.targets import Continuous


class RelatedPair(Source):
    """Two numbers of one normal vector x, by sines of two directions with a given cosine between them.

    Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts" (2018), §3.2:
    y_t = w_tᵀx + Σ_i sin(α_i w_tᵀx + β_i) + ε for w_1 = c u_1 and w_2 = c (p u_1 + √(1 − p²) u_2), with orthogonal
    unit vectors u_1, u_2. The paper gives no α and β; as in its authors' generator α_i = i and β_i = (i − 1)². Tasks:
    `first` and `second`, each on every row. At p = 1 they differ by their noise alone.

    Args:
        dimension: Of x.
        cosine: p, of the angle between the directions.
        sines: How many.
        scale: c.
        noise: Standard deviation of ε.
        train_rows: Rows for training.
        val_rows: Rows for validation.
        test_rows: Rows for the test.
        seed: Of directions, rows and noise. Not the seed of the training run.

    Raises:
        ValueError: There is no such cosine, fewer than two dimensions, or a noise that is negative.
    """

    def __init__(
        self,
        dimension: int = 100,
        cosine: float = 0.5,
        sines: int = 6,
        scale: float = 1.0,
        noise: float = 0.01,
        train_rows: int = 10_000,
        val_rows: int = 2_000,
        test_rows: int = 2_000,
        seed: int = 0,
    ) -> None:
        if dimension < 2:
            raise DataError("data.sources.dimension", "must be at least 2", dimension)
        if not -1 <= cosine <= 1:
            raise DataError("data.sources.cosine", "must be from -1 to 1", cosine)
        if not noise >= 0:
            raise DataError("data.sources.noise", "must not be negative", noise)
        self.targets = {"first": Continuous(), "second": Continuous()}
        draw = np.random.default_rng(seed)
        u1, u2 = np.linalg.qr(draw.standard_normal((dimension, 2)))[0].T
        w = scale * np.stack([u1, cosine * u1 + sqrt(1 - cosine**2) * u2])
        self._splits = {}
        for name, rows in zip(SPLITS, (train_rows, val_rows, test_rows), strict=True):
            x = draw.standard_normal((rows, dimension))
            along = w @ x.T  # w_tᵀx, [2, rows]
            y = along + sum(np.sin(i * along + (i - 1) ** 2) for i in range(1, sines + 1))
            y += noise * draw.standard_normal(y.shape)
            labels = dict(zip(self.targets, torch.from_numpy(y).float(), strict=True))
            self._splits[name] = TensorSplit(torch.from_numpy(x).float(), labels)

    def split(self, name: SplitName) -> TensorSplit:
        """Inputs are [N, dimension]."""
        return self._splits[name]
