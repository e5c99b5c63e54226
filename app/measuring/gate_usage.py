"""How much the gates of a sharing scheme use each expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from models.learned import Gates, Learned

Seen = Sequence[tuple[int, Tensor]]  # which gate, and the weights [B, E] that it gave


class GateWatch:
    """Keeps what gates give, until it is taken.

    Args:
        gates: In the order in which they are counted.
    """

    def __init__(self, gates: Sequence[nn.Module]) -> None:
        self._seen: list[tuple[int, Tensor]] = []
        self._handles = [gate.register_forward_hook(partial(self._see, place)) for place, gate in enumerate(gates)]

    def _see(self, place: int, gate: nn.Module, inputs: Any, weights: Tensor) -> None:
        """Keep weights; a second look at a batch in training, which has no gradient, is none."""
        if torch.is_grad_enabled() or not gate.training:
            self._seen.append((place, weights.detach()))

    def take(self) -> Seen:
        """What was given since the last time."""
        taken, self._seen = self._seen, []
        return taken

    def close(self) -> None:
        """Leave the gates alone."""
        for handle in self._handles:
            handle.remove()


class GateUsage(Metric):
    """Mean weights that gates give to experts, over the rows of an epoch that pass through them.

    Args:
        gates: Name → gates, of which there is one at least.
    """

    total: Tensor
    rows: Tensor

    def __init__(self, gates: Mapping[str, Gates]) -> None:
        super().__init__()
        self.names = {name: (list(each.each), list(each.experts)) for name, each in gates.items()}
        count, width = sum(len(each.each) for each in gates.values()), max(len(each.experts) for each in gates.values())
        self.add_state("total", torch.zeros(count, width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(count, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, seen: Seen) -> None:
        """Add what the gates gave for a batch."""
        for place, weights in seen:
            self.total[place, : weights.shape[1]] += weights.sum(dim=0, dtype=torch.float64)
            self.rows[place] += len(weights)

    def compute(self) -> dict[str, Learned]:
        """Name → mean weights [gates, experts] on all ranks; NaN of a gate that no row passed. Collective."""
        means = torch.split(self.total / self.rows[:, None], [len(gates) for gates, _ in self.names.values()])
        return {
            name: Learned(mean[:, : len(experts)], gates, experts, least=0)
            for mean, (name, (gates, experts)) in zip(means, self.names.items(), strict=True)
        }
