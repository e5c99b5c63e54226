"""An optimizer step under way: what its micro-batches have shown so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from app.balancing import MicroBatch, Step
from app.ranks.collectives import sum_over_ranks
from datamodules.batch import MultiTaskBatch


class TrainingStep:
    """The losses of an optimizer step, from its first micro-batch to its last.

    Args:
        weights: Task → factor of its loss.

    Attributes:
        batch: The current micro-batch.
        losses: [T] the tasks' losses over the micro-batches so far; once the step has ended, over all ranks.
        weighted: Task's number → its weighted loss of the current micro-batch, with its graph.
        total: The sum of these.
    """

    batch: MultiTaskBatch
    losses: Tensor
    weighted: dict[int, Tensor]
    total: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.tasks, self._weights = list(weights), list(weights.values())

    def take(self, batch: MultiTaskBatch, losses: Mapping[str, Tensor], first: bool, device: torch.device) -> Tensor:
        """Add a micro-batch's losses; their weighted sum, which has a graph even where no row could be read.

        Args:
            batch: The micro-batch.
            losses: Task → this micro-batch's part of its loss.
            first: Whether the micro-batch is the first of its step.
            device: Where the network is.
        """
        vector = self.vector(losses, device)
        self.batch, self.losses = batch, vector if first else self.losses + vector
        self.weighted = {i: self._weights[i] * losses[name] for i, name in enumerate(self.tasks) if name in losses}
        # Where no row could be read, or all that is read is frozen, other ranks and micro-batches go on.
        nothing = torch.zeros((), device=device, requires_grad=True)
        self.total = torch.stack([nothing, *self.weighted.values()]).sum()
        return self.total

    def end(self) -> None:
        """Sum the losses over the ranks. Collective."""
        sum_over_ranks(self.losses)

    def release(self) -> dict[int, Tensor]:
        """The weighted losses, whose graph is let go of here."""
        weighted, self.weighted = self.weighted, {}
        del self.total
        return weighted

    def micro_batch(
        self, number: int, epoch: int, of: int, ends: bool, rows: Mapping[str, Tensor], size: int
    ) -> MicroBatch:
        """Where the current micro-batch stands.

        Args:
            number: Optimizer steps before this one.
            epoch: Its epoch.
            of: Micro-batches of a step.
            ends: Whether this one is the step's last.
            rows: Task → its rows of the shared activations, of `size` in all.
            size: Number of these.
        """
        present = self.present()
        losses = self.weigh(self.losses)[present] if ends else None
        by_number = {i: rows[name] for i, name in enumerate(self.tasks) if name in rows}
        return MicroBatch(Step(number, epoch, present), of, losses, by_number, size)

    def present(self) -> Tensor:
        """[T'] numbers of the tasks with a labelled row in the step, on any rank."""
        return torch.tensor([i for i, name in enumerate(self.tasks) if self.batch.counts[name]])

    def weigh(self, losses: Tensor) -> Tensor:
        """The losses [T] times the tasks' factors."""
        return torch.tensor(self._weights).to(losses) * losses

    def vector(self, values: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """One detached number a task, [T], zero for those that `values` lacks."""
        zero = torch.zeros((), device=device)
        return torch.stack([values[name].detach() if name in values else zero for name in self.tasks])

    def by_task(self) -> dict[str, float]:
        """Task → its loss of the step, of those that took part. Waits for the device."""
        values: Sequence[float] = self.losses.tolist()
        return {name: loss for name, loss in zip(self.tasks, values, strict=True) if self.batch.counts[name]}
