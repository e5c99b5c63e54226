"""What several ranks exchange; on one process, whatever wraps its model, each gives what it was given."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """How many ranks there are, one without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def several() -> bool:
    """Whether there is more than one rank: the one question on which every collective depends."""
    return ranks() > 1


def first() -> bool:
    """Whether this is the first rank, which speaks for all."""
    return not several() or dist.get_rank() == 0


def sum_over_ranks(x: Tensor) -> None:
    """Replace a tensor by its sum over the ranks, equal bit for bit on all of them. Collective."""
    if several():
        dist.all_reduce(x)


def take_from_first(x: Tensor) -> None:
    """Replace a tensor by that of rank 0. Collective."""
    if several():
        dist.broadcast(x, src=0)


def wait_for_all() -> None:
    """Return when every rank has come here. Collective."""
    if several():
        device = [torch.cuda.current_device()] if dist.get_backend() == "nccl" else None  # else NCCL guesses, and warns
        dist.barrier(device_ids=device)


def gathered(mine: Any) -> list[Any]:
    """What each rank has, in their order; tensors should be on the CPU. Collective."""
    if not several():
        return [mine]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    return parts
