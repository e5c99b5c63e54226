"""What balancing showed: weights, norms of the tasks' gradients, and how far these agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from app.balancing import StepRecord


class BalanceFigures(NamedTuple):
    """What balancing showed, NaN where it showed nothing.

    Attributes:
        weights: [T] the tasks' weights.
        norms: [T] of their gradients.
        cosines: [T, T] between their gradients.
        conflict: Share of the steps in which some two gradients point apart.
    """

    weights: Tensor
    norms: Tensor
    cosines: Tensor
    conflict: Tensor


class BalanceMetrics(Metric):
    """Means over an epoch's steps; every rank sees the same steps.

    Args:
        tasks: Number of tasks T.
    """

    weights: Tensor
    weight_steps: Tensor
    norms: Tensor
    norm_steps: Tensor
    cosines: Tensor
    cosine_steps: Tensor
    conflict_steps: Tensor
    compared_steps: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        vector, matrix = torch.zeros(tasks, dtype=torch.float64), torch.zeros(tasks, tasks, dtype=torch.float64)
        for state in ("weights", "weight_steps", "norms", "norm_steps"):
            self.add_state(state, vector.clone(), dist_reduce_fx="sum")
        for state in ("cosines", "cosine_steps"):
            self.add_state(state, matrix.clone(), dist_reduce_fx="sum")
        for state in ("conflict_steps", "compared_steps"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, record: StepRecord) -> None:
        """Add a step, unless it overflowed and is skipped."""
        present = record.present
        if record.weights is not None and record.weights.isfinite().all():
            self.weights[present] += record.weights.to(self.weights)
            self.weight_steps[present] += 1
        if record.gramian is not None and record.gramian.isfinite().all():
            norms, cosines = norms_and_cosines(record.gramian.to(self.norms))
            self.norms[present] += norms
            self.norm_steps[present] += 1
            self.cosines[present[:, None], present] += cosines.nan_to_num()
            self.cosine_steps[present[:, None], present] += ~cosines.isnan()
            self.conflict_steps += (cosines < 0).any()
            self.compared_steps += 1

    def compute(self) -> BalanceFigures:
        """Means over the steps in which a task, or both of a pair, took part; NaN where there was none."""
        return BalanceFigures(
            self.weights / self.weight_steps,
            self.norms / self.norm_steps,
            self.cosines / self.cosine_steps,
            self.conflict_steps / self.compared_steps,
        )


def of_step(record: StepRecord, tasks: int) -> BalanceFigures:
    """A single step's, as `BalanceMetrics.compute` gives an epoch's."""
    metrics = BalanceMetrics(tasks)
    metrics.update(record)
    return metrics.compute()


def norms_and_cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Norms [T'] of the gradients of a Gramian [T', T'], and the cosines of each pair [T', T'], NaN for a zero one."""
    norms = gramian.diagonal().sqrt()
    return norms, gramian / (norms[:, None] * norms)


def curves(names: Sequence[str], stage: str, figures: BalanceFigures) -> dict[str, Tensor]:
    """The figures by the name of their curve; those that are NaN, having not been seen, are left out.

    That is `weight/<stage>/<task>`, `gradient_norm/<stage>/<task>`, `cosine/<stage>/<task>~<task>` of each pair, and
    `conflict/<stage>/total`: the share of steps in which some two tasks' gradients point apart.
    """
    named = {f"weight/{stage}/{name}": weight for name, weight in zip(names, figures.weights, strict=True)}
    named |= {f"gradient_norm/{stage}/{name}": norm for name, norm in zip(names, figures.norms, strict=True)}
    for i, first in enumerate(names):
        named |= {f"cosine/{stage}/{first}~{second}": figures.cosines[i, j] for j, second in enumerate(names) if j > i}
    named[f"conflict/{stage}/total"] = figures.conflict
    return {name: value for name, value in named.items() if not value.isnan()}
