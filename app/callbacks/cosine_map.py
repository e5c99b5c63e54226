"""A picture of which tasks agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont

from app.training.module import MultiTaskModule

CELL, FONT = 56, 14  # pixels
Picture = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


class CosineMap(Callback):
    """Writes the mean cosines of the tasks' gradients as a heat map, `cosine/train`, at the end of each epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the epoch's steps showed, before the module starts the next one's means; collective."""
        assert isinstance(pl_module, MultiTaskModule)
        balance = pl_module.stages["train"].balance
        if pl_module.balancing.method is None or not balance.compared:
            return
        cosines = balance.compute()[2].cpu().numpy()
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if isinstance(logger, TensorBoardLogger):
                picture = heat_map(cosines, list(pl_module.network.tasks))
                logger.experiment.add_image("cosine/train", picture, trainer.global_step - 1, dataformats="HWC")


def heat_map(cosines: np.ndarray[tuple[int, int], np.dtype[np.float64]], names: Sequence[str]) -> Picture:
    """A matrix [T, T] of cosines as a picture: red agrees, blue conflicts, grey has not been seen."""
    font = ImageFont.load_default(FONT)
    margin = int(max(font.getlength(name) for name in names)) + FONT
    side = margin + CELL * len(names)
    image = Image.new("RGB", (side, FONT * 2 + CELL * len(names)), "white")
    draw = ImageDraw.Draw(image)
    for i, name in enumerate(names):
        top = FONT * 2 + CELL * i
        draw.text((FONT // 2, top + CELL / 2), name, "black", font, anchor="lm")
        draw.text((margin + CELL * (i + 0.5), FONT), _shortened(name, font), "black", font, anchor="mm")
        for j in range(len(names)):
            left, cosine = margin + CELL * j, float(cosines[i, j])
            draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), _colour(cosine))
            if not np.isnan(cosine):
                draw.text((left + CELL / 2, top + CELL / 2), f"{cosine:.2f}", "black", font, anchor="mm")
    return np.asarray(image)


def _colour(cosine: float) -> tuple[int, int, int]:
    """White at zero, ever redder up to one, ever bluer down to minus one."""
    if np.isnan(cosine):
        return 200, 200, 200
    pale = round(255 * (1 - min(abs(cosine), 1.0) * 0.7))
    return (255, pale, pale) if cosine > 0 else (pale, pale, 255)


def _shortened(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """As much of a name as fits over a cell."""
    while font.getlength(name) > CELL:
        name = name[:-1]
    return name
