"""What Lightning leaves out of a checkpoint, or reads wrongly out of one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import RestartStage
from lightning.pytorch.loops.loop import _Loop
from torch import Tensor

from app.module import MultiTaskModule

KEY = "random_state"


class Resumption(Callback):
    """Makes a resumed run go on as if it had never stopped.

    The checkpoint gets the state of torch's generators (dropout, drop path) on every rank. And with `max_steps`,
    where Lightning takes the end of an epoch for its middle and ends it a second time, the epoch is ended once. The
    configured options of the optimizer win over the checkpoint's.
    """

    def __init__(self) -> None:
        self.training = False  # whether a step has begun
        self._loaded: list[list[Tensor]] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add `random_state`: for every rank the states of the CPU's and of each CUDA device's generator."""
        mine = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        states: list[Any] = [mine]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            dist.all_gather_object(states, mine)
        checkpoint[KEY] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random states until training starts: what happens before may draw numbers."""
        self._loaded = checkpoint.get(KEY, [])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the generators, those of a rank that the checkpoint does not know left as they are; mend the loop."""
        for cpu, *cuda in self._loaded[trainer.global_rank : trainer.global_rank + 1]:
            torch.set_rng_state(cpu)
            for device, state in enumerate(cuda[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
        loop: Any = trainer.fit_loop
        if loop.restarted_on_epoch_end:
            loop.epoch_progress.increment_completed()
            loop._restart_stage = RestartStage.NONE
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]  # the loop's own setter would undo it
        if trainer.ckpt_path:
            assert isinstance(pl_module, MultiTaskModule)
            pl_module.configure_restored_optimizer()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note that training is under way."""
        self.training = True
