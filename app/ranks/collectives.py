"""What several ranks do together; on one process each is true as it stands, and does nothing."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def several() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_in_place(x: Tensor) -> None:
    """Replace a tensor by its sum over the ranks. Collective."""
    if several():
        dist.all_reduce(x)
