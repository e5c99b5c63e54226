"""Small data sets on the disk of every kind that a network can be used on, and a run on each."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from PIL import Image

TRAINER = {
    "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False
}  # fmt: skip
ROWS = 90


def table(images: bool) -> pl.DataFrame:
    """Numbers, texts, dates, with and without empty cells; the targets follow from them."""
    draw = random.Random(0)
    rows = []
    for row in range(ROWS):
        age, hue = draw.gauss(40, 12), draw.choice(["red", "green", "blue"])
        image = {"image": f"img/{row}.png"} if images else {}
        rows.append(
            image
            | {
                "age": round(age, 3),
                "income": None if row % 5 == 0 else round(draw.gauss(3000, 900), 2),
                "hue": hue,
                "town": None if row % 7 == 0 else draw.choice(["Oslo", "Rome", "São Paulo"]),
                "seen": f"20{10 + row % 12}-0{1 + row % 9}-1{row % 10}",
                "kind": ["ant", "bee", "cat"][row % 3],
                "old": "yes" if age > 40 else "no",
                "weight": round(age * 1000 + row, 1),
                "tags": ["a|b", "a", "b", "|"][row % 4],
            }
        )
    return pl.DataFrame(rows)


def draw_images(folder: Path, frame: pl.DataFrame) -> None:
    """A picture a row, of a brightness of its own."""
    for row, name in enumerate(frame["image"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (row, 255 - row, 90)).save(path)


FEATURES = ["age", "income", "hue", "town", "seen"]
TARGETS: dict[str, Any] = {"kind": None, "old": None, "weight": {"unit": "g"}, "tags": None}
LENET = {"class_path": "LeNet", "init_args": {"widths": [4], "kernel_size": 3, "features": 8}}
MLP = {"class_path": "MLP", "init_args": {"hidden": [8]}}
BACKBONES = {
    "table": MLP,
    "images": LENET,
    "both": {"class_path": "LateFusion", "init_args": {"backbones": {"image": LENET, "features": MLP}}},
}


def configuration(kind: str) -> Path:
    """Write a data set of a kind into the current folder, and the configuration of a run on it."""
    frame = table(kind != "table")
    if kind != "table":
        draw_images(Path(), frame)
    frame.write_csv("rows.csv")
    arguments = {"path": "rows.csv", "targets": TARGETS}
    if kind != "table":
        arguments["image"] = "image"
    if kind != "images":
        arguments["features"] = FEATURES
    content = {
        "name": kind,
        "data": {
            "sources": {"rows": {"class_path": "Table", "init_args": arguments}},
            "sampling": {"class_path": "Shared", "init_args": {"batch_size": 16}},
        },
        "model": {"backbone": BACKBONES[kind]},
        "trainer": TRAINER,
    }
    path = Path(f"{kind}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def largest_difference(one: pl.DataFrame, other: pl.DataFrame, std: dict[str, float]) -> float:
    """Of the numbers in equal columns, by `std` where it is given; texts must be the same."""
    assert one.columns == other.columns
    worst = 0.0
    for name in one.columns:
        if one[name].dtype.is_numeric():
            worst = max(worst, float((one[name] - other[name]).abs().max()) / std.get(name, 1.0))
        else:
            assert one[name].to_list() == other[name].to_list(), name
    return worst
