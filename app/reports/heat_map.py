"""A matrix as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERED = 32  # rows whose cells have room for a number
DPI, FONT = 100, 9
MISSING, DARK = "#d0d0d0", "#202020"


def heat_map(
    values: NDArray[np.float64],
    names: Sequence[str],
    colours: str,
    least: float,
    text: Callable[[int, int], str],
    axes_names: tuple[str, str] = ("", ""),
    columns: Sequence[str] | None = None,
    most: float = 1,
) -> NDArray[np.uint8]:
    """A matrix [N, M] as a picture [H, W, 3], with a bar of its colours; what is NaN is grey.

    Args:
        values: From `least` to `most`, or beyond.
        names: [N] of its rows.
        colours: matplotlib's name of a colour map.
        least: Value that has the first colour, as have those below it.
        text: What stands in the cell of a row and a column, if there are no more than 32; light on what is dark.
        axes_names: What rows and columns are.
        columns: [M] their names; None for those of the rows.
        most: Value that has the last colour, as have those above it.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    of_columns = names if columns is None else columns
    size = max(len(names), len(of_columns))
    height, width = (max(2.4, min(0.55, 18 / size) * len(each)) for each in (names, of_columns))  # inches
    figure = Figure((width + 2, height + 1.4), dpi=DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_subplot(ylabel=axes_names[0], xlabel=axes_names[1])
    image = axes.imshow(values, cmap=colormaps[colours].with_extremes(bad=MISSING), vmin=least, vmax=most)
    across, down = (range(0, len(each), -(-len(each) // 100)) for each in (of_columns, names))
    axes.set_xticks(across, [of_columns[i] for i in across], rotation=90, fontsize=FONT, parse_math=False)
    axes.set_yticks(down, [names[i] for i in down], fontsize=FONT, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, shrink=0.8, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=FONT)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # which would draw all numbers twice
    if size <= NUMBERED:
        _write(axes, values / most, text)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write(axes: Any, values: NDArray[np.float64], text: Callable[[int, int], str]) -> None:
    """What stands in the cells."""
    for (i, j), value in np.ndenumerate(values):
        if shown := text(i, j):
            colour = "white" if abs(value) > 0.6 else DARK
            axes.text(j, i, shown, ha="center", va="center", color=colour, fontsize=FONT)
