"""Freezes and thaws layers as a schedule says."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from app.callbacks.averaging import WeightAverage
from app.training.module import MultiTaskModule
from app.training.schedulers import epoch_steps, total_epochs, total_steps
from app.transfer import FineTuning, Phase, Progress, Schedule, check_phases, phases_of
from models.errors import ConfigurationError


class Patience(EarlyStopping):
    """Stops a run whose curve got no better for some validations; under a schedule, for some of the last phase."""

    def _should_skip_check(self, trainer: Trainer) -> bool:
        tuning = trainer.lightning_module.fine_tuning
        under_way = isinstance(tuning, FineTuning) and tuning.progress.number < len(tuning.progress.phases) - 1
        return under_way or super()._should_skip_check(trainer)


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
        phases = self._phases(trainer, list(pl_module.network.layers))
        network, progress = pl_module.network, Progress(phases, self.higher_is_better)
        modules = [*network.sharing.children(), *network.heads.values()]
        self.tuning = FineTuning(network.layers, modules, pl_module.layer_factors, progress)

    def _phases(self, trainer: Trainer, layers: list[str]) -> list[Phase]:
        """The phases, for a run of this length."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            phases = phases_of(self.schedule, layers, self.epochs)
            check_phases(phases, layers, self.epochs, steps=None)
        else:
            epochs = total_epochs(trainer)
            phases = phases_of(self.schedule, layers, epochs)
            check_phases(phases, layers, epochs, total_steps(trainer), epoch_steps(trainer))
        averaged = any(isinstance(each, WeightAverage) for each in trainer.callbacks)  # type: ignore[attr-defined]
        for i, phase in enumerate(phases):
            if trainer.limit_val_batches == 0 and (phase.patience is not None or phase.restore_best):
                key = "patience" if phase.patience is not None else "restore_best"
                raise ConfigurationError(
                    f"schedule[{i}].{key}", "needs validation, but trainer.limit_val_batches is 0", getattr(phase, key)
                )
            if phase.restore_best and averaged:
                raise ConfigurationError(
                    f"schedule[{i}].restore_best",
                    "cannot bring back weights where averages are validated",
                    "true beside an average of weights in trainer.callbacks",
                )
        return phases

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the schedule run."""
        assert isinstance(pl_module, MultiTaskModule)
        pl_module.run_schedule(self.tuning)

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
