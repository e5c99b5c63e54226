"""A batch as the network sees it, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional

from app.reports.data.maps import coloured, described
from datamodules.batch import Inputs, MultiTaskBatch
from datamodules.targets import Binary, Categorical, Continuous, Dense, MultiLabel, Target

SIDE = 160  # of a picture, its longer one, in pixels
GAP, LINE, FONT_SIZE = 12, 17, 13
COLUMNS = 8
MOST_LINES = 12  # of labels under a picture
MISSING = "–"
BLACK, GREY, PALE = "#202020", "#707070", "#b0b0b0"

FONTS = ("DejaVuSans.ttf", "Arial.ttf")  # of the system; Pillow's own, the last resort, lacks all but plain letters

Line = tuple[str, str]
Tile = tuple[Image.Image | None, Line]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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
    """(task, label in the user's own words) of one row of a batch; a label that it does not have is a dash.

    Dense labels are shown as pictures, by `maps_of_row`.
    """
    lines = []
    for task, target in targets.items():
        if not isinstance(target, Dense):
            label = label_of(batch, row, task)
            lines.append((task, MISSING if label is None else words(target, label)))
    return lines


def maps_of_row(batch: MultiTaskBatch, row: int, targets: Mapping[str, Target]) -> list[Tile]:
    """For every dense task, a picture of one row's label, and what it is; no picture if it has none."""
    tiles: list[Tile] = []
    for task, target in targets.items():
        if isinstance(target, Dense):
            label = label_of(batch, row, task)
            tiles.append(
                (None, (task, MISSING))
                if label is None
                else (coloured(target, label), (task, described(target, label)))
            )
    return tiles


def label_of(batch: MultiTaskBatch, row: int, task: str) -> Tensor | None:
    """A row's label in a batch; None if it has none."""
    places = (batch.rows[task] == row).nonzero() if task in batch.rows else torch.empty(0)
    return batch.targets[task][places[0, 0]] if len(places) else None


def words(target: Target, label: Tensor) -> str:
    """One row's label in the user's own names and unit; its shape, where it is neither a number nor few of them."""
    match target:
        case Categorical(classes):
            return classes[int(label)]
        case Binary(names):
            return names[int(label)]
        case MultiLabel(classes):
            return ", ".join(name for name, there in zip(classes, label.tolist(), strict=True) if there) or "none"
        case Continuous(unit):
            return f"{label.item():.4g}" + (f" {unit}" if unit else "")
    if label.numel() > 4:
        return "×".join(str(size) for size in label.shape)
    return ", ".join(f"{number:.4g}" for number in label.flatten().tolist())


def contact_sheet(
    images: Tensor, labels: Sequence[Sequence[Line]], title: str, maps: Sequence[Sequence[Tile]] | None = None
) -> Image.Image:
    """Pictures in rows of eight, each with its labels under it and, at its right, those that are pictures too.

    Args:
        images: [B, C, H, W] of 1 or 3 channels; each is stretched from its smallest to its largest value.
        labels: [B] (task, label) of each picture, the same number each.
        title: Stands at the top.
        maps: [B] a tile for each dense label, the same number each.
    """
    cells = _cells(images, labels, maps or [[]] * len(images))
    font = _font()
    size, per_cell = cells[0][0][0].size, len(cells[0])
    columns, width = min(max(1, COLUMNS // per_cell), len(cells)) * per_cell, max(SIDE, size[0])
    height = size[1] + LINE // 2 + LINE * max(len(lines) for _, lines in cells[0]) + GAP
    rows = -(-len(cells) * per_cell // columns)
    top = 2 * GAP + LINE
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), top + rows * (height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), _fitted(title, sheet.width - 2 * GAP, font), BLACK, font)
    for number, (picture, lines) in enumerate(tile for cell in cells for tile in cell):
        x, y = GAP + number % columns * (width + GAP), top + number // columns * (height + GAP)
        sheet.paste(picture, (x, y))
        for place, (task, label) in enumerate(lines):
            _write(draw, (x, y + size[1] + LINE // 2 + place * LINE), task, label, width, font)
    return sheet


def _cells(
    images: Tensor, labels: Sequence[Sequence[Line]], maps: Sequence[Sequence[Tile]]
) -> list[list[tuple[Image.Image, Sequence[Line]]]]:
    """Of every row the pictures that stand side by side, and what stands under each: first the image's, then maps."""
    cells = []
    for image, lines, tiles in zip(images, labels, maps, strict=True):
        picture = _picture(image)
        blank = Image.new("RGB", picture.size, "white")
        beside = [blank if tile is None else tile.resize(picture.size, Image.Resampling.NEAREST) for tile, _ in tiles]
        cells.append([(picture, _shortened(lines)), *zip(beside, [[line] for _, line in tiles], strict=True)])
    return cells


def _picture(image: Tensor) -> Image.Image:
    """One image [C, H, W], stretched to all of its range; small ones keep their pixels visible."""
    low, high = image.min(), image.max()
    stretched = (image - low) / (high - low).clamp_min(torch.finfo(image.dtype).tiny)
    picture: Image.Image = functional.to_pil_image(functional.to_dtype(stretched, torch.uint8, scale=True))
    factor = SIDE / max(picture.size)
    if factor >= 2:
        whole = int(factor)
        return picture.resize((picture.width * whole, picture.height * whole), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _shortened(lines: Sequence[Line]) -> Sequence[Line]:
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[: MOST_LINES - 1], ("…", f"and {len(lines) - MOST_LINES + 1} more")]


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    task: str,
    label: str,
    width: int,
    font: Font,
) -> None:
    """One line: the task, then its label."""
    name = _fitted(task, width // 2, font) + "  "
    draw.text(corner, name, GREY, font)
    x, y = corner[0] + font.getlength(name), corner[1]
    if label == MISSING:
        middle = y + LINE // 2
        draw.line([(x, middle), (x + FONT_SIZE // 2, middle)], PALE)
        return
    draw.text((x, y), _fitted(label, corner[0] + width - x, font), BLACK, font)


def _font() -> Font:
    for name in FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, FONT_SIZE)
    return ImageFont.load_default(size=FONT_SIZE)


def _fitted(text: str, width: float, font: Font) -> str:
    """`text` on one line, its end left out where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
