"""Predictions as a table."""

from __future__ import annotations

import csv
from collections import defaultdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from PIL import Image

from app.ranks.collectives import gathered
from app.runs import whole_file


class PredictionWriter(Callback):
    """Writes what `predict_step` gives to a CSV file, a line a row of the split, in their order.

    Beside the number of the `row`, `sample` is what the user calls it in the data of its `source`, such as the path of
    its image. A map goes to a file of its own, `predictions/<column>/<row>`, which the table names: class indices to a
    .png, other numbers to a .npy.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, list[Any]] = defaultdict(list)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's columns."""
        loader: Any = trainer.predict_dataloaders
        sources, samples = loader.rows.keys(batch.ids)
        names = {"row": batch.ids.tolist(), "source": sources, "sample": samples}
        for name, values in (names | outputs).items() if samples else []:
            maps = isinstance(values[0], np.ndarray)
            self._columns[name] += self._saved(name, batch.ids.tolist(), values) if maps else values

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the ranks' rows and write them."""
        parts = gathered(dict(self._columns))
        if trainer.is_global_zero:
            rows = sorted(row for part in parts for row in zip(*part.values(), strict=True))
            table = StringIO(newline="")
            csv.writer(table).writerows([next((part.keys() for part in parts if part), []), *rows])
            with whole_file(self.path) as file:
                file.write(table.getvalue().encode())
        rank_zero_info(f"Wrote {self.path}")

    def _saved(self, column: str, rows: list[int], maps: list[NDArray[Any]]) -> list[str]:
        """Write the map of each row; where it is, seen from the table."""
        integers = maps[0].dtype.kind == "u"
        names = [f"predictions/{column}/{row}.{'png' if integers else 'npy'}" for row in rows]
        for name, values in zip(names, maps, strict=True):
            with whole_file(self.path.parent / name) as file:
                if integers:
                    Image.fromarray(values).save(file, "PNG")
                else:
                    np.save(file, values)
        return names
