"""Freezes and thaws layers as a schedule says."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from app.module import MultiTaskModule
from app.schedulers import total_steps
from app.transfer import FineTuning, Progress, Schedule, check_phases, phases_of


class Thawing(Callback):
    """Runs a schedule of fine-tuning.

    All parameters are in the optimizer from the start, and gradients are summed over the ranks outside of
    DistributedDataParallel, so layers may be frozen and thawed at any step without the ranks drifting apart.

    Args:
        schedule: Phases, or a preset.
        monitor: The validation curve by which phases with `patience` end.
        higher_is_better: Its direction.
        epochs: Of the run as configured, or None if it has no end; `fast_dev_run` has its own.
    """

    def __init__(self, schedule: Schedule, monitor: str, higher_is_better: bool, epochs: int | None) -> None:
        self.schedule, self.monitor, self.higher_is_better = schedule, monitor, higher_is_better
        self.epochs = epochs
        self.tuning: FineTuning

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Work the phases out.

        Raises:
            ValueError: They cannot be run.
        """
        assert isinstance(pl_module, MultiTaskModule)
        if stage != "fit":
            return
        names = list(pl_module.layers)
        phases = phases_of(self.schedule, names, self.epochs)
        fast = trainer.fast_dev_run  # type: ignore[attr-defined]  # set by a connector
        check_phases(phases, names, self.epochs, None if fast else total_steps(trainer))
        for i, phase in enumerate(phases):
            if phase.patience is not None and trainer.limit_val_batches == 0:
                raise ValueError(
                    f"schedule[{i}].patience: needs validation, but trainer.limit_val_batches is 0, found "
                    f"{phase.patience}"
                )
        networks = [*pl_module.sharing.children(), *pl_module.heads.values()]
        progress = Progress(phases, self.higher_is_better)
        self.tuning = FineTuning(pl_module.layers, networks, pl_module.layer_factors, progress)
        pl_module.fine_tuning = self.tuning

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze what the phase does not train, also that of a resumed run."""
        self.tuning.begin()
        self._say(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin the next phase, if it is time to and an optimizer step begins."""
        step, epoch = trainer.global_step, trainer.current_epoch
        begins = batch_idx % trainer.accumulate_grad_batches == 0
        if begins and self.tuning.advance(step, epoch, pl_module, trainer.optimizers[0]):
            self._say(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See whether the curve has stalled."""
        if not trainer.sanity_checking:
            self.tuning.observe(trainer.callback_metrics[self.monitor].item(), pl_module, trainer.optimizers[0])

    def state_dict(self) -> dict[str, Any]:
        """How far the schedule is."""
        return self.tuning.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the schedule."""
        self.tuning.load_state_dict(state_dict)

    def _say(self, trainer: Trainer) -> None:
        rank_zero_info(f"Epoch {trainer.current_epoch}, step {trainer.global_step}: {self.tuning}")
