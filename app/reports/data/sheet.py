"""A batch as the network sees it, in one picture."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from datamodules.batch import Inputs, MultiTaskBatch
from datamodules.targets import Target

SIDE = 160  # of a picture, its longer one, in pixels
GAP, LINE, FONT_SIZE = 12, 17, 13
COLUMNS = 8
MOST_LINES = 12  # of labels under a picture
MISSING = "–"
BLACK, GREY, PALE = "#202020", "#707070", "#b0b0b0"
DPI = 100

Line = tuple[str, str]
Tile = tuple[Tensor | None, Line]


def pictures(inputs: Inputs) -> Tensor | None:
    """The images [B, C, H, W] of 1 or 3 channels among the inputs; None if there are none."""
    for x in inputs.values() if isinstance(inputs, dict) else [inputs]:
        if x.ndim == 4 and x.shape[1] in (1, 3) and x.is_floating_point():
            return x
    return None


def some_rows(rows: int, most: int) -> list[int]:
    """At most `most` of `rows`, spread evenly: a batch lies sorted by source and by task."""
    return torch.linspace(0, rows - 1, min(rows, most)).round().int().tolist()


def labels_of(batch: MultiTaskBatch, row: int, targets: Mapping[str, Target]) -> list[Line]:
    """(task, label in the user's own words) of one row of a batch, maps left out; one that it lacks is a dash."""
    flat = {task: label_of(batch, row, task) for task, target in targets.items() if not target.dense}
    return [(task, MISSING if label is None else targets[task].describe(label)) for task, label in flat.items()]


def maps_of_row(batch: MultiTaskBatch, row: int, targets: Mapping[str, Target]) -> list[Tile]:
    """For every dense task, a picture of one row's label, and what it is; no picture if it has none."""
    tiles: list[Tile] = []
    for task, target in targets.items():
        if target.dense:
            label = label_of(batch, row, task)
            tiles.append(
                (None, (task, MISSING)) if label is None else (target.picture(label), (task, target.describe(label)))
            )
    return tiles


def label_of(batch: MultiTaskBatch, row: int, task: str) -> Tensor | None:
    """A row's label in a batch; None if it has none."""
    places = (batch.rows[task] == row).nonzero() if task in batch.rows else torch.empty(0)
    return batch.targets[task][places[0, 0]] if len(places) else None


def contact_sheet(
    images: Tensor, labels: Sequence[Sequence[Line]], title: str, maps: Sequence[Sequence[Tile]] | None = None
) -> Image.Image:
    """Pictures in rows of eight, each with its labels under it and, at its right, those that are pictures too.

    Args:
        images: [B, C, H, W] of 1 or 3 channels; each is stretched from its smallest to its largest value.
        labels: [B] (task, label) of each picture, the same number each.
        title: Stands at the top.
        maps: [B] a tile for each dense label, the same number each: bytes [3, H, W], and what stands under them.
    """
    cells = _cells(images, labels, maps or [[]] * len(images))
    size, per_cell = cells[0][0][0].size, len(cells[0])
    columns, width = min(max(1, COLUMNS // per_cell), len(cells)) * per_cell, max(SIDE, size[0])
    height = size[1] + LINE // 2 + LINE * max(len(lines) for _, lines in cells[0]) + GAP
    rows = -(-len(cells) * per_cell // columns)
    top = 2 * GAP + LINE
    page = _Page(GAP + columns * (width + GAP), top + rows * (height + GAP))
    page.write(title, GAP, GAP, page.width - 2 * GAP, BLACK)
    for number, (picture, lines) in enumerate(tile for cell in cells for tile in cell):
        x, y = GAP + number % columns * (width + GAP), top + number // columns * (height + GAP)
        page.paste(picture, x, y)
        for place, line in enumerate(lines):
            _write(page, line, x, y + size[1] + LINE // 2 + place * LINE, width)
    return page.drawn()


class _Page:
    """A white picture that is filled from its upper left corner; lengths are pixels."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.font_manager import FontProperties

        self.width, self.height = width, height
        self.figure = Figure((width / DPI, height / DPI), dpi=DPI)
        self.canvas: Any = FigureCanvasAgg(self.figure)
        self.font = FontProperties(family="DejaVu Sans", size=FONT_SIZE * 72 / DPI)  # which matplotlib brings along
        self._widths: dict[str, float] = {}

    def paste(self, picture: Image.Image, x: int, y: int) -> None:
        """Put a picture there, pixel by pixel."""
        self.figure.figimage(np.asarray(picture), x, self.height - y - picture.height)

    def write(self, text: str, x: float, y: float, width: float, colour: str) -> float:
        """Write on one line, the end left out where it is wider than `width`; how wide it has become."""
        shown = self._fitted(" ".join(text.split()), width)
        baseline = self.height - y - FONT_SIZE
        self.figure.text(x, baseline, shown, color=colour, font=self.font, transform=None, parse_math=False)
        return self._width(shown)

    def drawn(self) -> Image.Image:
        """The picture."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of letters that the font lacks
            self.canvas.draw()
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3].copy())

    def _fitted(self, text: str, width: float) -> str:
        """`text`, or as much of its beginning as there is room for, and an ellipsis."""
        if self._width(text) <= width:
            return text
        fitting = bisect_right(range(len(text)), width, key=lambda length: self._width(f"{text[:length]}…"))
        return f"{text[: fitting - 1]}…" if fitting else ""

    def _width(self, text: str) -> float:
        if text not in self._widths:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                size = self.canvas.get_renderer().get_text_width_height_descent(text, self.font, ismath=False)
            self._widths[text] = size[0]
        return self._widths[text]


def _cells(
    images: Tensor, labels: Sequence[Sequence[Line]], maps: Sequence[Sequence[Tile]]
) -> list[list[tuple[Image.Image, Sequence[Line]]]]:
    """Of every row the pictures that stand side by side, and what stands under each: first the image's, then maps."""
    cells = []
    for image, lines, tiles in zip(images, labels, maps, strict=True):
        picture = _picture(image)
        beside = [(_beside(picture, colours), [line]) for colours, line in tiles]
        cells.append([(picture, _shortened(lines)), *beside])
    return cells


def _picture(image: Tensor) -> Image.Image:
    """One image [C, H, W], stretched to all of its range; small ones keep their pixels visible."""
    low, high = image.min(), image.max()
    stretched = (image - low) / (high - low).clamp_min(torch.finfo(image.dtype).tiny)
    picture: Image.Image = functional.to_pil_image(functional.to_dtype(stretched, torch.uint8, scale=True))
    picture = picture.convert("RGB")
    factor = SIDE / max(picture.size)
    if factor >= 2:
        whole = int(factor)
        return picture.resize((picture.width * whole, picture.height * whole), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _beside(picture: Image.Image, colours: Tensor | None) -> Image.Image:
    """A map in colours [3, H, W], of the size of a picture; white if there is none."""
    if colours is None:
        return Image.new("RGB", picture.size, "white")
    tile: Image.Image = functional.to_pil_image(colours)
    return tile.resize(picture.size, Image.Resampling.NEAREST)


def _shortened(lines: Sequence[Line]) -> Sequence[Line]:
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[: MOST_LINES - 1], ("…", f"and {len(lines) - MOST_LINES + 1} more")]


def _write(page: _Page, line: Line, x: int, y: int, width: int) -> None:
    """One line: the task, then its label."""
    task, label = line
    begin = page.write(task, x, y, width // 2, GREY) + FONT_SIZE // 2
    page.write(label, x + begin, y, width - begin, PALE if label == MISSING else BLACK)
