"""What the user set, beside what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from app.configuration import Value
from app.training.module import MultiTaskModule


class HyperParameters(Callback):
    """Shows the loggers what was set; TensorBoard's HPARAMS has it from the first step on, interrupted or not.

    Its columns of figures are the monitored curve's last value and the test's, of which classes have none.

    Args:
        chosen: Key of the configuration → value, of what is not as by default.
        monitor: The curve that the best checkpoint is chosen by.
    """

    def __init__(self, chosen: Mapping[str, Value], monitor: str) -> None:
        self.chosen, self.monitor = dict(chosen), monitor

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show the loggers what was set, before the trainer has them write it down."""
        for logger in trainer.loggers if stage == "fit" else []:
            logger.log_hyperparams(self.chosen)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it for HPARAMS, and which curves are its figures."""
        assert isinstance(pl_module, MultiTaskModule)
        tests = [curve for curve in pl_module.stages["test"].higher_is_better() if curve.count("/") == 2]
        figures = dict.fromkeys([self.monitor, *tests], 0.0)  # no values: the curves have them
        experiment, start, _ = hparams(self.chosen, figures)  # type: ignore[no-untyped-call]
        self._write(trainer, experiment, start)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the run as one that came to its end."""
        *_, end = hparams({}, {})  # type: ignore[no-untyped-call]
        self._write(trainer, end)

    def _write(self, trainer: Trainer, *summaries: Any) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if isinstance(logger, TensorBoardLogger):
                for each in summaries:
                    logger.experiment._get_file_writer().add_summary(each)
