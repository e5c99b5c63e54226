"""Tables and images with something wrong: read as numbers, or refused in one line with the file; nothing else."""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from mutants import mutant
from PIL import Image
from torchvision.transforms import v2

from datamodules.errors import DataError
from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.transforms import TorchvisionTransforms
from datamodules.sampling import Shared
from datamodules.sources import Folder, Source, Table
from models.errors import ConfigurationError

MANY = [pytest.param(100, id="some"), pytest.param(2000, id="thousands", marks=pytest.mark.slow)]
CELLS = [
    "", " ", "nan", "NaN", "inf", "-inf", "1e39", "1e400", "-0", "0x1", "1_000", "1,5", '"', '""', '"a', "'", "\0",
    "\ufeff", "\u202e", "🐦", "null", "None", "True", "9" * 400, "a" * 70_000, "\r", "\n", "\t", ";", "=1+1", "1e-400",
]  # fmt: skip
PICTURES = [
    "RGB PNG", "RGB JPEG", "L PNG", "P PNG", "RGBA PNG", "CMYK JPEG", "I;16 PNG", "RGB GIF", "RGB BMP", "RGB TIFF",
    "RGB WEBP", "1 PNG", "F TIFF",
]  # fmt: skip
HEADER, ROWS = "x1,x2,y", [f"{row},{row * 2},{row % 2}" for row in range(40)]


def odd_csv(draw: random.Random) -> bytes:
    """A table in which a cell, a line, the header or the encoding is not as it should be, or some bytes."""
    lines = [HEADER, *ROWS]
    at = draw.randrange(len(lines))
    cells = lines[at].split(",")
    kind = draw.choice(["cell", "cells", "fewer", "more", "double", "empty", "header", "encoding", "bytes"])
    if kind in ("cell", "cells"):
        for place in range(3) if kind == "cells" else [draw.randrange(3)]:
            cells[place] = draw.choice(CELLS)
        lines[at] = ",".join(cells)
    elif kind in ("fewer", "more"):
        lines[at] = ",".join(cells[:-1] if kind == "fewer" else [*cells, draw.choice(CELLS)])
    elif kind in ("double", "empty"):
        lines.insert(at, lines[at] if kind == "double" else "")
    elif kind == "header":
        lines[0] = draw.choice(["x1,x1,y", "x1,,y", "x1,y", "X1,x2,y", "y,x2,x1", "x1;x2;y", " x1 , x2 , y ", ""])
    text = draw.choice(["\n", "\r\n"]).join(lines)
    encoding = draw.choice(["utf-16", "utf-8-sig", "utf-32", "utf-7"]) if kind == "encoding" else "utf-8"
    content = text.encode(encoding)
    return mutant(content, draw) if kind == "bytes" else content


def odd_parquet(draw: random.Random) -> bytes:
    columns = {
        "x1": draw.choice([*4 * [list(range(40))], [float("nan")] * 40, [None] * 40, ["a"] * 40, [[1.0]] * 40]),
        "x2": [draw.choice([0.5, 1e39, float("inf"), None]) if draw.random() < 0.1 else 1.0 * row for row in range(40)],
        "y": [row % 2 for row in range(40)],
    }
    file = io.BytesIO()
    polars.DataFrame(columns).write_parquet(file)
    return mutant(file.getvalue(), draw) if draw.random() < 0.5 else file.getvalue()


def odd_image(draw: random.Random) -> bytes:
    """A picture of some mode and format, with some bytes changed in two of three."""
    mode, kind = draw.choice(PICTURES).split()
    size = draw.choice([(8, 8), (8, 8), (1, 1), (1, 300), (64, 3)])
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, kind)
    content = file.getvalue()
    for _ in range(draw.randrange(3)):
        content = mutant(content, draw) or b"\0"
    return content


def source_of_table(path: Path) -> Callable[[], Source]:
    return lambda: Table(str(path), targets=["y"], features=["x1", "x2"])


def source_of_images(path: Path) -> Callable[[], Source]:
    """The picture among good ones of two classes."""
    root = path.parents[2]
    for name in ("cats", "dogs"):
        for split in ("train", "val", "test"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(root / split / name / "good.png")
    return lambda: Folder(str(root))


KINDS: dict[str, tuple[str, Callable[[random.Random], bytes], Callable[[Path], Callable[[], Source]]]] = {
    "csv": ("t.csv", odd_csv, source_of_table),
    "parquet": ("t.parquet", odd_parquet, source_of_table),
    "images": ("train/cats/odd.png", odd_image, source_of_images),
}


def read_all(source: Source, images: bool) -> None:
    resized: list[Any] = [v2.Resize((8, 8))]
    transform = TorchvisionTransforms(resized, resized) if images else None
    data = MultiTaskDataModule({"t": source}, Shared(4), transform=transform)
    data.setup("fit")
    for batch in data.train_dataloader():
        assert batch.inputs.isfinite().all()


@pytest.mark.parametrize("number", MANY)
@pytest.mark.parametrize("kind", KINDS)
def test_is_read_or_refused(tmp_path: Path, kind: str, number: int) -> None:
    name, odd, source = KINDS[kind]
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    make, said = source(path), {}
    for seed in range(number):
        path.write_bytes(odd(random.Random(seed)))
        try:
            read_all(make(), kind == "images")
        except (DataError, ConfigurationError) as error:
            said[seed] = str(error)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert 0 < len(said) < number
    assert not {seed: line for seed, line in said.items() if path.name not in line or "\n" in line}
