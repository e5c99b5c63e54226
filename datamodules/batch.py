"""What one forward pass consumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor]


@dataclass
class MultiTaskBatch:
    """One forward pass through the shared trunk, whatever the number of tasks.

    Single-input data (all rows for all tasks), one dataset a task (disjoint rows) and partial labels (any rows) are
    one case. A task without rows on this process is in neither `targets` nor `rows`; it may still be in `counts`.

    Attributes:
        inputs: [B, ...], or one such tensor a modality; [0] where no row of the batch could be read.
        targets: task → [B_t, ...], only of the rows that carry the label.
        rows: task → [B_t] indices into `inputs`, ascending.
        counts: task → labelled rows of the whole optimizer step: all ranks, all micro-batches.
        ids: [B] index of each row in its split (the sources of the split one after the other).
        skipped: Why each row that was drawn, but could not be read, is not in the batch. The `counts` still have it.
    """

    inputs: Inputs
    targets: dict[str, Tensor]
    rows: dict[str, Tensor]
    counts: dict[str, int]
    ids: Tensor
    skipped: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MultiTaskBatch:
        """The same batch on another device. Called by Lightning."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> MultiTaskBatch:
        """The same batch in page-locked memory. Called by the DataLoader."""
        return self._map(Tensor.pin_memory)

    def _map(self, fn: Callable[[Tensor], Tensor]) -> MultiTaskBatch:
        return MultiTaskBatch(
            inputs=map_inputs(fn, self.inputs),
            targets={task: fn(labels) for task, labels in self.targets.items()},
            rows={task: fn(rows) for task, rows in self.rows.items()},
            counts=self.counts,
            ids=fn(self.ids),
            skipped=self.skipped,
        )


def map_inputs(fn: Callable[..., Tensor], *inputs: Inputs) -> Inputs:
    """Apply `fn` to corresponding tensors of `inputs`, modality by modality where they are dicts."""
    first = inputs[0]
    if isinstance(first, Tensor):
        return fn(*inputs)
    return {name: fn(*(each[name] for each in inputs if isinstance(each, dict))) for name in first}
