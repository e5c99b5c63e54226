"""What one forward pass consumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor]

SMALL = 2**10  # bytes of a tensor that a loader's worker sends by value


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

    def __getstate__(self) -> dict[str, Any]:
        """What a loader's worker sends: small tensors by value, as each other one takes a file in shared memory."""
        return {name: _sent(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The batch as it was."""
        vars(self).update({name: _received(value) for name, value in state.items()})

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


def _sent(value: Any) -> Any:
    """`value` with an array in place of each small tensor, where NumPy has its type."""
    if isinstance(value, dict):
        return {name: _sent(each) for name, each in value.items()}
    if isinstance(value, Tensor) and value.is_cpu and value.nbytes <= SMALL and value.dtype != torch.bfloat16:
        return value.numpy()
    return value


def _received(value: Any) -> Any:
    """`value` with the tensors back in place."""
    if isinstance(value, dict):
        return {name: _received(each) for name, each in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
