"""The random state of every rank, in the checkpoint."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

KEY = "random_state"


class RandomState(Callback):
    """Saves torch's generators (dropout, drop path) on every rank, and sets them where training goes on."""

    def __init__(self) -> None:
        self._loaded: list[list[Tensor]] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add `random_state`: for every rank the states of the CPU's and of each CUDA device's generator."""
        states: list[Any] = [None] * trainer.world_size
        mine = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        if trainer.world_size > 1:
            dist.all_gather_object(states, mine)
        else:
            states = [mine]
        checkpoint[KEY] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep it until training starts: what happens before may draw numbers."""
        self._loaded = checkpoint[KEY]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the generators; those of a rank that the checkpoint does not know stay as they are."""
        for cpu, *cuda in self._loaded[trainer.global_rank : trainer.global_rank + 1]:
            torch.set_rng_state(cpu)
            for device, state in enumerate(cuda[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
