"""A picture of which tasks agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from app.reports.heat_map import heat_map
from app.training.module import MultiTaskModule


class CosineMap(Callback):
    """Writes the mean cosines of the tasks' gradients as a heat map, `cosine/train`, at the end of each epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the epoch's steps showed, before the module starts the next one's means; collective."""
        assert isinstance(pl_module, MultiTaskModule)
        balance = pl_module.stages["train"].balance
        if pl_module.balancing.method is None or not balance.compared_steps:
            return
        cosines = balance.compute().cosines.cpu().numpy()
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if isinstance(logger, TensorBoardLogger):
                picture = map_of_cosines(cosines, list(pl_module.network.tasks))
                logger.experiment.add_image("cosine/train", picture, trainer.global_step - 1, dataformats="HWC")


def map_of_cosines(cosines: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.uint8]:
    """A matrix [T, T] of cosines as a picture [H, W, 3]: red agrees, blue conflicts, grey has not been seen.

    Up to 32 tasks, the cells below the diagonal have their numbers.
    """

    def text(i: int, j: int) -> str:
        return f"{cosines[i, j]:.2f}" if i > j and not np.isnan(cosines[i, j]) else ""

    return heat_map(cosines, names, "RdBu_r", -1, text)
