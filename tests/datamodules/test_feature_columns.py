"""Dates, missing cells and columns of many texts as inputs."""

from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import torch

from datamodules.sources import SPLITS, Table
from datamodules.sources.table import FeatureColumn

DAYS = [date(2020, 2, 27) + timedelta(days=41 * row) for row in range(30)]
PART = [SPLITS[row % 5 % 3] for row in range(30)]


def table(path: Path, frame: dict, **features: object) -> Table:
    columns = pl.DataFrame({**frame, "y": [row / 2 for row in range(30)], "part": PART})
    columns.write_csv(path) if path.suffix == ".csv" else columns.write_parquet(path)
    return Table(path, ["y"], features=features or list(frame), split="part")  # type: ignore[arg-type]


@pytest.mark.parametrize("time", [False, True])
def test_dates_are_the_same_from_csv_and_parquet(tmp_path: Path, time: bool) -> None:
    given = [datetime(day.year, day.month, day.day, 6, 30) if time else day for day in DAYS]
    cells = [None if row == 5 else each for row, each in enumerate(given)]
    of_parquet = table(tmp_path / "t.parquet", {"seen": cells}).split("train").inputs
    texts = [None if each is None else str(each) for each in cells]
    of_csv = table(tmp_path / "t.csv", {"seen": texts}).split("train").inputs
    assert torch.equal(of_csv, of_parquet)
    rows = [row for row in range(30) if PART[row] == "train"]
    numbers = torch.tensor(
        [[d.year, d.month, d.isoweekday(), (d - date(1970, 1, 1)).days + (0.2708333 if time else 0)] for d in DAYS],
        dtype=torch.float64,
    )[rows]
    there = torch.tensor([row != 5 for row in rows])
    std, mean = torch.std_mean(numbers[there], dim=0, correction=0)
    expected = torch.where(there[:, None], (numbers - mean) / std, 0)
    assert torch.allclose(of_csv[:, :4].double(), expected.double(), atol=1e-4)
    assert of_csv[:, 4].tolist() == [float(row == 5) for row in rows]


def test_many_texts_are_refused_unless_they_are_asked_for(tmp_path: Path) -> None:
    lines = ["name,y,part", *(f"n{row},{row / 2},{SPLITS[row % 5 % 3]}" for row in range(1200))]
    (tmp_path / "t.csv").write_text("\n".join(lines))

    def read(features: object) -> torch.Size:
        found = Table(tmp_path / "t.csv", ["y"], features=features, split="part")  # type: ignore[arg-type]
        return found.split("val").inputs.shape

    with pytest.raises(ValueError, match=r"t\.csv, column 'name': text of more than 1000 values .*, found 1200 values"):
        read(["name"])
    assert read({"name": FeatureColumn("text")})[1] == 480
    assert read({"name": FeatureColumn("hashed", buckets=16)})[1] == 16


def test_a_text_is_in_the_same_bucket_in_every_split(tmp_path: Path) -> None:
    words = [f"w{row % 3}" for row in range(30)]
    found = table(tmp_path / "t.csv", {"word": words}, word=FeatureColumn("hashed", buckets=64))
    buckets = {}
    for part in SPLITS:
        split = found.split(part)
        for row, inputs in enumerate(split.inputs):
            buckets.setdefault(words[int(split.key(row))], set()).add(int(inputs.argmax()))
    assert all(len(each) == 1 for each in buckets.values())
