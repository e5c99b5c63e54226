"""A picture of which tasks agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from app.training.module import MultiTaskModule

NUMBERED = 32  # tasks whose cells have room for a number
DPI, FONT = 100, 9
MISSING, DARK = "#d0d0d0", "#202020"


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
                picture = heat_map(cosines, list(pl_module.network.tasks))
                logger.experiment.add_image("cosine/train", picture, trainer.global_step - 1, dataformats="HWC")


def heat_map(cosines: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.uint8]:
    """A matrix [T, T] of cosines as a picture [H, W, 3]: red agrees, blue conflicts, grey has not been seen.

    Up to 32 tasks, the cells below the diagonal have their numbers.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = len(names)
    side = max(2.4, min(0.55, 18 / tasks) * tasks)  # inches
    figure = Figure((side + 2, side + 1.4), dpi=DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(cosines, cmap=colormaps["RdBu_r"].with_extremes(bad=MISSING), vmin=-1, vmax=1)
    ticks = range(0, tasks, -(-tasks // 100))
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90, fontsize=FONT, parse_math=False)
    axes.set_yticks(ticks, [names[i] for i in ticks], fontsize=FONT, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, shrink=0.8, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=FONT)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # which would draw all numbers twice
    if tasks <= NUMBERED:
        _write_numbers(axes, cosines)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write_numbers(axes: Any, cosines: NDArray[np.float64]) -> None:
    """The number of each pair that was seen, once, light on what is dark."""
    for (i, j), cosine in np.ndenumerate(cosines):
        if i > j and not np.isnan(cosine):
            colour = "white" if abs(cosine) > 0.6 else DARK
            axes.text(j, i, f"{cosine:.2f}", ha="center", va="center", color=colour, fontsize=FONT)
