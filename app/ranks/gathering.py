"""What every rank has, on all of them."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer


def gathered(trainer: Trainer, mine: Any) -> list[Any]:
    """Each rank's `mine`, in their order. Collective; tensors should be on the CPU."""
    if trainer.world_size == 1:
        return [mine]
    parts: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(parts, mine)
    return parts
