"""A picture of which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from app.reports.heat_map import heat_map
from app.training.module import MultiTaskModule


class ConfusionMap(Callback):
    """Writes the confusion matrix of a test as a heat map, `confusion/test/<task>`, of each task that has one."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the module has counted over all processes."""
        assert isinstance(pl_module, MultiTaskModule)
        writers = [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
        if not trainer.is_global_zero or not writers:
            return
        for name, counts in pl_module.stages["test"].counts.items():
            if counts.matrix is not None:
                names = pl_module.network.tasks[name].target.class_names or ()
                picture = map_of_confusion(counts.matrix.numpy(), names)
                for writer in writers:
                    writer.add_image(f"confusion/test/{name}", picture, trainer.global_step, dataformats="HWC")


def map_of_confusion(matrix: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.uint8]:
    """A confusion matrix [C, C] as a picture [H, W, 3]: the share of each class's rows, grey if it has none.

    Up to 32 classes, the cells have the numbers of their rows, zeros left out.
    """
    rows = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.full(matrix.shape, np.nan), where=rows > 0)
    return heat_map(shares, names, "Blues", 0, lambda i, j: str(matrix[i, j] or ""), ("label", "prediction"))
