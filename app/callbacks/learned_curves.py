"""What sharing schemes and regularizers have learned, as curves and pictures."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from app.measuring.gate_usage import GateUsage, GateWatch
from app.reports.learned import cells_of, learned_by, picture_of
from app.training.module import MultiTaskModule
from models.learned import Learned

USAGE = "gate_usage"  # the name of its sums in a checkpoint


class LearnedCurves(Callback):
    """Writes what has been learned beside the network at the end of each epoch: `sharing/…` and `regularizer/…`.

    Numbers are curves. Matrices are heat maps, and a curve a cell where these are few. Of gates it is their mean
    weights, `sharing/<gates>/<stage>`, over the rows of all ranks that pass through them.

    """

    def __init__(self) -> None:
        self._usage: dict[str, dict[str, Learned]] = {}
        self._sums: dict[str, GateUsage] = {}
        self._watch = GateWatch([])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch the gates; what is summed of an epoch of training is among its sums in a checkpoint."""
        assert isinstance(pl_module, MultiTaskModule)
        if gates := pl_module.network.sharing.shown_gates():
            self._watch = GateWatch([gate for of_name in gates.values() for gate in of_name.each.values()])
            self._sums = {name: GateUsage(gates) for name in pl_module.stages}
            for name, metrics in pl_module.stages.items():
                metrics.add_module(USAGE, self._sums[name])

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the gates alone."""
        self._watch.close()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Forget what callbacks that show predictions have asked of the network."""
        self._watch.take()

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Forget what callbacks that show predictions have asked of the network."""
        self._watch.take()

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Forget what callbacks that show predictions have asked of the network."""
        self._watch.take()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Add what the gates gave."""
        self._add("train")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Add what the gates gave."""
        self._add("val")

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Add what the gates gave."""
        self._add("test")

    def _add(self, stage: str) -> None:
        if self._sums:
            self._sums[stage].update(self._watch.take())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything. Collective."""
        assert isinstance(pl_module, MultiTaskModule)
        write(trainer, {**self._of("train"), **learned_by(pl_module)})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the mean weights of gates. Collective."""
        used = self._of("val")
        if not trainer.sanity_checking:
            write(trainer, used)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the mean weights of gates. Collective."""
        write(trainer, self._of("test"))

    def latest(self) -> dict[str, Learned]:
        """The mean weights of gates in the test; without one, in the last epoch of validation or of training."""
        return next((self._usage[stage] for stage in ("test", "val", "train") if stage in self._usage), {})

    def _of(self, stage: str) -> dict[str, Learned]:
        """The mean weights of the epoch, which then starts anew."""
        if not self._sums:
            return {}
        used = {f"sharing/{name}/{stage}": each for name, each in self._sums[stage].compute().items()}
        self._sums[stage].reset()
        self._usage[stage] = used
        return used


def write(trainer: Trainer, learned: dict[str, Learned]) -> None:
    """Write matrices, the first rank alone."""
    step = trainer.global_step - 1
    for logger in trainer.loggers if trainer.is_global_zero else []:
        curves = {tag: value for name, each in learned.items() for tag, value in cells_of(name, each).items()}
        logger.log_metrics(curves, step=step)
        if isinstance(logger, TensorBoardLogger):
            for tag, each in learned.items():
                if each.values.ndim == 2:
                    logger.experiment.add_image(tag, picture_of(each), step, dataformats="HWC")
