"""A few predictions beside the labels, in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from app.reports.data.sheet import Line, contact_sheet, labels_of, pictures, some_rows
from app.training.module import MultiTaskModule
from datamodules.batch import MultiTaskBatch, map_inputs

ROWS = 16
TAG = "predictions/test"
TITLE = f"{TAG}: what is predicted (and the label)"


class PredictionSamples(Callback):
    """Writes predictions of some rows of the first test batch, with their labels: a table, and a picture of images.

    Maps are left out. The first process writes, from its own rows.
    """

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Predict and write them."""
        assert isinstance(pl_module, MultiTaskModule)
        writers = [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
        if batch_idx or not trainer.is_global_zero or not writers or not len(batch.ids):
            return
        rows = some_rows(len(batch.ids), ROWS)
        with trainer.precision_plugin.forward_context():
            lines = predicted_lines(pl_module, batch, rows)
        if not lines[0]:
            return
        images = pictures(batch.inputs)
        for writer in writers:
            writer.add_text(TAG, as_markdown(batch.ids[rows].tolist(), lines), trainer.global_step)
            if images is not None:
                sheet = contact_sheet(images[rows].float().cpu(), lines, TITLE)
                writer.add_image(TAG, np.asarray(sheet), trainer.global_step, dataformats="HWC")


def predicted_lines(module: MultiTaskModule, batch: MultiTaskBatch, rows: Sequence[int]) -> list[list[Line]]:
    """For each of some rows of a batch, (task, prediction and label in the user's own words); maps are left out."""
    tasks = {name: task for name, task in module.network.tasks.items() if not task.target.dense}
    inputs = map_inputs(lambda x: x[list(rows)], batch.inputs)
    everything = torch.arange(len(rows), device=batch.ids.device)
    outputs = module.network(inputs, dict.fromkeys(module.network.tasks, everything))
    said = {name: in_words(task.decode(outputs[name])) for name, task in tasks.items()}
    targets = {name: task.target for name, task in tasks.items()}
    labels = [labels_of(batch, row, targets) for row in rows]
    return [[(task, f"{said[task][place]} ({label})") for task, label in each] for place, each in enumerate(labels)]


def in_words(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """What is predicted of each row: the first of a task's columns, the others say how sure it is."""
    values = next(iter(columns.values()))
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]


def as_markdown(ids: Sequence[int], lines: Sequence[Sequence[Line]]) -> str:
    """A table of rows by their numbers in the split."""
    head = ["row", *(task for task, _ in lines[0])]
    rows = [[str(row), *(text for _, text in each)] for row, each in zip(ids, lines, strict=True)]
    written = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, *rows]]
    return "\n".join([written[0], f"|{'---|' * len(head)}", *written[1:]])
