"""Predictions as a table."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from PIL import Image

from app.ranks.collectives import gathered
from app.runs import table_file, whole_file
from app.training.module import MultiTaskModule
from datamodules.batch import MultiTaskBatch


class PredictionWriter(Callback):
    """Writes what `predict_step` gives to a CSV or Parquet file, a line a row of the split, in their order.

    Beside the number of the `row`, `sample` is what the user calls it in the data of its `source`, such as the path of
    its image. Where rows have a label, a column `<task>_true` has it. A map goes to a file of its own in a folder of
    the table's name, `<column>/<row>`, which the table names: class indices to a .png, other numbers to a .npy. Every
    batch of all ranks is written at once, so that memory does not grow with the number of rows.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = ExitStack()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file."""
        loader: Any = trainer.predict_dataloaders
        assert isinstance(pl_module, MultiTaskModule)
        tasks = pl_module.network.tasks
        rows = loader.rows
        labelled = zip(rows.tasks, rows.labelled.any(dim=1).tolist(), strict=True)
        self._tasks = {name: tasks[name] for name, some in labelled if some and not tasks[name].target.dense}
        types = {f"{name}_true": task.label_type for name, task in self._tasks.items()}
        if trainer.is_global_zero:
            self._append = self._open.enter_context(table_file(self.path, types))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Gather the ranks' rows of a batch and write them. Collective."""
        loader: Any = trainer.predict_dataloaders
        sources, samples = loader.rows.keys(batch.ids)
        ids = batch.ids.tolist()
        columns: dict[str, list[Any]] = {"row": ids, "source": sources, "sample": samples}
        for name, values in outputs.items() if ids else []:
            columns[name] = self._saved(name, ids, values) if isinstance(values[0], np.ndarray) else values
        parts = gathered(columns | self._labels(batch))
        if trainer.is_global_zero:
            with_rows = [part for part in parts if part["row"]]
            rows = sorted(row for part in with_rows for row in zip(*part.values(), strict=True))
            if rows:
                self._append(dict(zip(with_rows[0], map(list, zip(*rows, strict=True)), strict=True)))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the file."""
        self._open.close()
        rank_zero_info(f"Wrote {self.path}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no part of the file."""
        self._open.__exit__(type(exception), exception, exception.__traceback__)

    def _labels(self, batch: MultiTaskBatch) -> dict[str, list[Any]]:
        """The labels of a batch's rows, None where there is none."""
        columns: dict[str, list[Any]] = {f"{name}_true": [None] * len(batch.ids) for name in self._tasks}
        for name, task in self._tasks.items():
            if name in batch.rows:
                for row, label in zip(batch.rows[name].tolist(), task.decode_labels(batch.targets[name]), strict=True):
                    columns[f"{name}_true"][row] = label
        return columns

    def _saved(self, column: str, rows: list[int], maps: list[NDArray[Any]]) -> list[str]:
        """Write the map of each row; where it is, seen from the table."""
        integers = maps[0].dtype.kind == "u"
        names = [f"{self.path.stem}/{column}/{row}.{'png' if integers else 'npy'}" for row in rows]
        for name, values in zip(names, maps, strict=True):
            with whole_file(self.path.parent / name) as file:
                if integers:
                    Image.fromarray(values).save(file, "PNG")
                else:
                    np.save(file, values)
        return names
