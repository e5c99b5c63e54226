"""What Lightning leaves out of a checkpoint, or reads wrongly out of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import RestartStage
from lightning.pytorch.loops.loop import _Loop

from app.callbacks.averaging import AVERAGE, WeightAverage
from app.ranks.collectives import gathered
from app.runs.identity import BALANCER, OPTIMIZER, POSITION, SCHEDULER, START, Identity, differences
from app.runs.identity import NAME as IDENTITY
from app.training.module import MultiTaskModule
from models.errors import ConfigurationError

RANDOM, METRICS = "random_state", "train_metrics"


class Resumption(Callback):
    """Makes a resumed run go on as if it had never stopped.

    The checkpoint gets the state of torch's generators (dropout, drop path) on every rank, and what every rank has
    summed up for the losses and metrics of the epoch so far. And with `max_steps`, where Lightning takes the end of an
    epoch for its middle and ends it a second time, the epoch is ended once. The configured options of the optimizer win
    over the checkpoint's.

    With another number of ranks, W, rank r goes on from the sums of ranks r, r + W, … together, so that none is lost.

    Args:
        tell_identity: Tells, once there is a trainer, what a run that goes on must have as it was.
    """

    def __init__(self, tell_identity: Callable[[], Identity]) -> None:
        self.tell_identity = tell_identity
        self.begun = False  # whether a step has
        self._loaded: dict[str, list[Any]] = {RANDOM: [], METRICS: []}

    @cached_property
    def identity(self) -> Identity:
        """What a run that goes on must have as it was, of `app.runs.identity`."""
        return self.tell_identity()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the experiment's identity, and a list with an item a rank under each of two names. Collective.

        `random_state` has the states of the CPU's and of each CUDA device's generator; `train_metrics` those of
        `StageMetrics.sums`, all zero at an epoch's end.
        """
        assert isinstance(pl_module, MultiTaskModule)
        between_epochs = {POSITION} if trainer.is_last_batch else set()
        checkpoint[IDENTITY] = {key: each for key, each in self.identity.items() if key not in between_epochs}
        random = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        parts = gathered((random, pl_module.stages["train"].sums()))
        checkpoint[RANDOM], checkpoint[METRICS] = (list(each) for each in zip(*parts, strict=True))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep both until training starts: what happens before may draw numbers; drop the state of what is replaced.

        Raises:
            ValueError: The run averaged its weights, and does no more.
        """
        averages = any(isinstance(each, WeightAverage) for each in trainer.callbacks)  # type: ignore[attr-defined]
        if trainer.training and AVERAGE in checkpoint and not averages:
            raise ConfigurationError(
                "trainer.callbacks", "must have the EMA or SWA that the checkpoint's run had", "none"
            )
        self._loaded = {key: checkpoint.get(key, []) for key in (RANDOM, METRICS)}
        if not trainer.training:
            return
        differ = differences(checkpoint, self.identity)
        began = {key: each for key, each in checkpoint.get(IDENTITY, {}).items() if key == START}
        self.identity |= began  # whatever is configured now
        for key, states in {OPTIMIZER: "optimizer_states", SCHEDULER: "lr_schedulers"}.items():
            if {key, BALANCER} & differ.keys():
                checkpoint[states] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set sums and generators, those of a rank that the checkpoint does not know left as they are; mend the loop.

        Raises:
            ValueError: The sums of several ranks are to be put together, and a metric's cannot.
        """
        assert isinstance(pl_module, MultiTaskModule)
        pl_module.stages["train"].go_on_from(self._loaded[METRICS][trainer.global_rank :: trainer.world_size])
        for cpu, *cuda in self._loaded[RANDOM][trainer.global_rank : trainer.global_rank + 1]:
            torch.set_rng_state(cpu)
            for device, state in enumerate(cuda[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
        loop: Any = trainer.fit_loop
        if loop.restarted_on_epoch_end:
            loop.epoch_progress.increment_completed()
            loop._restart_stage = RestartStage.NONE
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]  # the loop's own setter would undo it
        if trainer.ckpt_path:
            pl_module.configure_restored_optimizer()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note that training is under way."""
        self.begun = True
