"""What regularizers have learned, as curves and pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from app.reports.heat_map import heat_map
from app.training.module import MultiTaskModule


class RegularizerCurves(Callback):
    """Writes what each regularizer has learned, `regularizer/<name>/<what>`, at the end of each epoch.

    Numbers are curves, matrices heat maps.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them."""
        assert isinstance(pl_module, MultiTaskModule)
        step = trainer.global_step - 1
        for name, learned in pl_module.regularization.learned().items():
            tasks = pl_module.regularization.by_name[name].regularizer.tasks or []
            tags = {f"regularizer/{name}/{what}": x.double().cpu().numpy() for what, x in learned.items()}
            for logger in trainer.loggers if trainer.is_global_zero else []:
                logger.log_metrics({tag: float(x) for tag, x in tags.items() if x.ndim == 0}, step=step)
                if isinstance(logger, TensorBoardLogger):
                    for tag, x in tags.items():
                        if x.ndim == 2:
                            logger.experiment.add_image(tag, map_of_tasks(x, tasks), step, dataformats="HWC")


def map_of_tasks(values: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.uint8]:
    """A matrix [T, T] of values from -1 to 1 as a picture [H, W, 3], with its numbers."""
    return heat_map(values, names, "RdBu_r", -1, lambda i, j: f"{values[i, j]:.2f}")
