"""What balancing showed: weights, norms of the tasks' gradients, and how far these agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from app.balancing import StepRecord

Balances = tuple[Tensor, Tensor, Tensor, Tensor]  # weights [T], norms [T], cosines [T, T], share of steps in conflict


class BalanceMetrics(Metric):
    """Means over an epoch's steps; every rank sees the same steps.

    Args:
        tasks: Number of tasks T.
    """

    weights: Tensor
    weighed: Tensor
    norms: Tensor
    seen: Tensor
    cosines: Tensor
    met: Tensor
    conflicts: Tensor
    compared: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        vector, matrix = torch.zeros(tasks, dtype=torch.float64), torch.zeros(tasks, tasks, dtype=torch.float64)
        for state in ("weights", "weighed", "norms", "seen"):
            self.add_state(state, vector.clone(), dist_reduce_fx="sum")
        for state in ("cosines", "met"):
            self.add_state(state, matrix.clone(), dist_reduce_fx="sum")
        for state in ("conflicts", "compared"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, record: StepRecord) -> None:
        """Add a step, unless it overflowed and is skipped."""
        present = record.present
        if record.weights is not None and record.weights.isfinite().all():
            self.weights[present] += record.weights.to(self.weights)
            self.weighed[present] += 1
        if record.gramian is not None and record.gramian.isfinite().all():
            norms, cosines = norms_and_cosines(record.gramian.to(self.norms))
            self.norms[present] += norms
            self.seen[present] += 1
            met = ~cosines.isnan()
            self.cosines[present[:, None], present] += cosines.nan_to_num()
            self.met[present[:, None], present] += met
            self.conflicts += (cosines < 0).any()
            self.compared += 1

    def compute(self) -> Balances:
        """Means over the steps in which a task, or both of a pair, took part; NaN where there was none."""
        share = self.conflicts / self.compared
        return self.weights / self.weighed, self.norms / self.seen, self.cosines / self.met, share


def of_step(record: StepRecord, tasks: int) -> Balances:
    """A single step's, as `BalanceMetrics.compute` gives an epoch's."""
    metrics = BalanceMetrics(tasks)
    metrics.update(record)
    weights, norms, cosines, share = metrics.compute()
    return weights, norms, cosines, share


def norms_and_cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Norms [T'] of the gradients of a Gramian [T', T'], and the cosines of each pair [T', T'], NaN for a zero one."""
    norms = gramian.diagonal().sqrt()
    return norms, gramian / (norms[:, None] * norms)


def curves(names: Sequence[str], stage: str, values: Balances) -> dict[str, Tensor]:
    """The values by the name of their curve; those that are NaN, having not been seen, are left out.

    That is `weight/<stage>/<task>`, `gradient_norm/<stage>/<task>`, `cosine/<stage>/<task>~<task>` of each pair, and
    `conflict/<stage>/total`: the share of steps in which some two tasks' gradients point apart.
    """
    weights, norms, cosines, share = values
    named = {f"weight/{stage}/{name}": weight for name, weight in zip(names, weights, strict=True)}
    named |= {f"gradient_norm/{stage}/{name}": norm for name, norm in zip(names, norms, strict=True)}
    for i, first in enumerate(names):
        named |= {f"cosine/{stage}/{first}~{second}": cosines[i, j] for j, second in enumerate(names) if j > i}
    named[f"conflict/{stage}/total"] = share
    return {name: value for name, value in named.items() if not value.isnan()}
