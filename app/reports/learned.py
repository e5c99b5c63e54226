"""What sharing schemes and regularizers have learned: as lines, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from app.reports.heat_map import heat_map
from app.training.module import MultiTaskModule
from models.learned import Learned

FEW = 64  # cells of a matrix that have a curve each, and are printed


def learned_by(module: MultiTaskModule) -> dict[str, Learned]:
    """Name of a curve → what the network's sharing scheme and its regularizers have learned."""
    learned = {f"sharing/{name}": each for name, each in module.network.sharing.learned().items()}
    for name, of_name in module.regularization.learned().items():
        tasks = module.regularization.by_name[name].regularizer.tasks or []
        for what, values in of_name.items():
            names = tasks if values.ndim else ()
            learned[f"regularizer/{name}/{what}"] = Learned(values, names, names)
    return learned


def numbers_of(learned: Learned) -> NDArray[np.float64]:
    """The values, on the CPU."""
    values: NDArray[np.float64] = learned.values.detach().double().cpu().numpy()
    return values


def cells_of(name: str, learned: Learned) -> dict[str, float]:
    """Curve → its value: of a number, or of each cell of a matrix that has few, `<name>/<row>/<column>`."""
    values = numbers_of(learned)
    if not values.ndim:
        return {name: float(values)}
    cells = {
        f"{name}/{row}/{column}": float(values[i, j])
        for i, row in enumerate(learned.rows)
        for j, column in enumerate(learned.columns)
    }
    return {tag: value for tag, value in cells.items() if not np.isnan(value)} if len(cells) <= FEW else {}


def picture_of(learned: Learned) -> NDArray[np.uint8]:
    """A matrix as a picture [H, W, 3], with its numbers."""
    values = numbers_of(learned)
    colours = "RdBu_r" if learned.least < 0 else "Blues"
    return heat_map(
        values, learned.rows, colours, learned.least, lambda i, j: _cell(values[i, j]),
        columns=learned.columns, most=learned.most,
    )  # fmt: skip


def learned_lines(learned: Mapping[str, Learned]) -> list[str]:
    """A line a number, and a small table a matrix that has few cells."""
    lines = []
    for name, each in learned.items():
        values = numbers_of(each)
        if not values.ndim:
            lines.append(f"{name}: {_cell(float(values))}")
        elif values.size <= FEW:
            table = [["", *each.columns]]
            table += [[row, *map(_cell, own)] for row, own in zip(each.rows, values, strict=True)]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += [f"{name}:", *(_line(row, widths) for row in table)]
    return lines


def _line(row: list[str], widths: list[int]) -> str:
    first, *others = row
    cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join([f"  {first:<{widths[0]}}", *cells])


def _cell(value: float) -> str:
    """Whole numbers as such; nothing of what has no value."""
    return "" if np.isnan(value) else f"{value:.0f}" if value == round(value) else f"{value:.2f}"
