"""Tables of images and features: which row is where, and what it holds."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.reader import Reader
from datamodules.sources import SPLITS, Table
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel

TARGETS = ["kind", "flag", "size", "tags"]
ROWS = 60


def rows(images: bool = True) -> list[dict[str, str]]:
    """Rows whose cells tell which row they are of; 30 % of the cells of three targets are empty."""
    rng = random.Random(0)
    made = []
    for row in range(ROWS):
        cells = {
            "kind": ["cat", "dog", "ant"][row % 3],
            "flag": ["no", "yes"][row // 3 % 2],
            "size": str(row / 4),
            "tags": "|".join(tag for bit, tag in enumerate("abc") if (row % 7 + 1) >> bit & 1),
            "area": str(row + 100),
            "colour": ["red", "blue"][row % 2],
            "person": f"p{row // 5}",
            "part": "test" if row % 5 == 4 else "val" if row % 5 == 3 else "train",
        }
        for task in ("kind", "size", "tags"):
            cells[task] = "" if rng.random() < 0.3 else cells[task]
        made.append({"image": f"img/{row % 2}/{row}.png", **cells} if images else cells)
    return made


def write(folder: Path, made: list[dict[str, str]], name: str = "photos.csv") -> Path:
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    return folder / name


def draw(folder: Path, made: list[dict[str, str]]) -> None:
    """Files whose grey is the row."""
    for row, cells in enumerate(made):
        path = folder / cells["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), row).save(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_row_is_in_one_split_with_its_own_labels(tmp_path: Path, suffix: str) -> None:
    made = rows()
    path = write(tmp_path, made)
    if suffix == "parquet":
        path = tmp_path / "photos.parquet"
        pl.read_csv(tmp_path / "photos.csv").write_parquet(path)
    table = Table(path, TARGETS, image="image", features=["area", "colour"])
    assert table.targets == {
        "kind": Categorical(("ant", "cat", "dog")),
        "flag": Binary(("no", "yes")),
        "size": Continuous(),
        "tags": MultiLabel(("a", "b", "c")),
    }
    seen = []
    for name, size in zip(SPLITS, (42, 9, 9), strict=True):
        split = table.split(name)
        assert len(split) == size
        for row in range(size):
            key = split.key(row)
            number = int(Path(key).stem)
            cells = made[number]
            assert key == cells["image"]
            assert split.name(row) == f"row {number} of photos.{suffix} ({key})"
            labels = split.labels_of(row)
            assert [bool(split.labelled[task][row]) for task in TARGETS] == [cells[task] != "" for task in TARGETS]
            assert labels["flag"] == ["no", "yes"].index(cells["flag"])
            if cells["kind"]:
                assert table.targets["kind"].classes[labels["kind"]] == cells["kind"]
            if cells["size"]:
                assert labels["size"] == number / 4
            if cells["tags"]:
                assert "|".join(np.array(["a", "b", "c"])[labels["tags"].bool()]) == cells["tags"]
            seen.append(number)
    assert sorted(seen) == list(range(ROWS))


def test_share_of_missing_labels(tmp_path: Path) -> None:
    table = Table(write(tmp_path, rows()), TARGETS, image="image")
    labelled = torch.cat([table.split(name).labelled["kind"] for name in SPLITS])
    assert 0.55 < labelled.double().mean() < 0.85
    assert len(table.split("train").labels("kind")) == table.split("train").labelled["kind"].sum()


def test_images_and_features_of_a_row_go_together(tmp_path: Path) -> None:
    made = rows()
    draw(tmp_path, made)
    table = Table(write(tmp_path, made), TARGETS, image="image", mode="L", features=["area", "colour"], split="part")
    split = table.split("val")
    assert split.missing() == []
    mean, std = np.mean([r + 100 for r in range(60) if r % 5 < 3]), np.std([r + 100 for r in range(60) if r % 5 < 3])
    read = Reader()(split, torch.arange(len(split)), torch.zeros(len(split)))
    for row in range(len(split)):
        number = int(Path(split.key(row)).stem)
        image, features = read.inputs["image"][row], read.inputs["features"][row]
        assert torch.equal(image, torch.full((1, 2, 3), number / 255))
        assert features.tolist() == pytest.approx([(number + 100 - mean) / std, number % 2, 1 - number % 2])


def test_images_alone_are_plain_inputs(tmp_path: Path) -> None:
    made = rows()
    draw(tmp_path, made)
    split = Table(write(tmp_path, made), ["flag"], image="image").split("test")
    assert Reader()(split, torch.arange(9), torch.zeros(9)).inputs.shape == (9, 3, 2, 3)
    (tmp_path / split.key(4)).unlink()
    assert split.missing() == [4]


def feature_table(folder: Path, columns: dict[str, list], **options) -> Table:
    """Eight rows: five for training, two for validation, one for the test."""
    given = {"part": ["train"] * 5 + ["val"] * 2 + ["test"], "y": [0.5 * row for row in range(8)], **columns}
    lines = [list(given), *zip(*given.values(), strict=True)]
    (folder / "f.csv").write_text("\n".join(",".join(str(cell) for cell in line) for line in lines) + "\n")
    return Table(folder / "f.csv", ["y"], features=list(columns), split="part", **options)


def test_features_follow_the_training_rows_alone(tmp_path: Path) -> None:
    table = feature_table(
        tmp_path,
        {
            "a": [1, 2, "", 3, 2, 100, "", 2],
            "same": [5, 5, 5, "", 5, 6, 7, 5],
            "word": ["u", "v", "", "u", "v", "new", "v", "u"],
        },
    )
    std = np.std([1, 2, 3, 2])
    train, val, test = (table.split(name).inputs for name in SPLITS)
    expected = [  # the number and whether it is missing, twice; the two words, and whether it is neither
        [-1 / std, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, 0, 1],
        [1 / std, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
    ]
    assert torch.allclose(train, torch.tensor(expected, dtype=train.dtype))
    assert torch.allclose(val, torch.tensor([[98 / std, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1, 0]], dtype=val.dtype))
    assert test.tolist() == [[0, 0, 0, 0, 1, 0, 0]]


def test_rows_of_features_are_called_by_their_place_in_the_file(tmp_path: Path) -> None:
    val = feature_table(tmp_path, {"a": [1, 2, 3, 4, 5, 6, 7, 8]}).split("val")
    assert (val.name(1), val.key(1)) == ("row 6 of f.csv", "6")


def test_stratified_table_has_every_class_in_its_share(tmp_path: Path) -> None:
    made = rows()
    table = Table(write(tmp_path, made), TARGETS, image="image", stratify="kind")
    whole = [sum(cells["kind"] == name for cells in made) for name in ("", "ant", "cat", "dog")]
    for name, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        split = table.split(name)
        kinds = split.labels("kind").bincount(minlength=3).tolist()
        found = [len(split) - sum(kinds), *kinds]
        assert np.abs(np.array(found) - np.array(whole) * share).max() <= 1


def test_groups_stay_in_one_split_and_go_with_it(tmp_path: Path) -> None:
    table = Table(write(tmp_path, rows()), TARGETS, image="image", group="person", stratify="kind")
    persons = {}
    for name in SPLITS:
        split = table.split(name)
        numbers = [int(Path(split.key(row)).stem) // 5 for row in range(len(split))]
        persons[name] = set(numbers)
        same = split.groups[:, None] == split.groups[None]
        assert torch.equal(same, torch.tensor(numbers)[:, None] == torch.tensor(numbers)[None])
    assert sorted(each for name in SPLITS for each in persons[name]) == list(range(12))


def test_the_seed_says_which_rows(tmp_path: Path) -> None:
    path = write(tmp_path, rows())
    keys = [
        [split.key(row) for row in range(9)]
        for split in (Table(path, TARGETS, image="image", seed=seed).split("test") for seed in (1, 1, 2))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_nothing_of_the_tables_library_is_left_in_a_split(tmp_path: Path) -> None:
    table = Table(write(tmp_path, rows()), TARGETS, image="image", features=["area"], group="person")
    for value in vars(table.split("train")).values():
        for each in value.values() if isinstance(value, dict) else [value]:
            assert not type(each).__module__.startswith("polars")
            assert not isinstance(each, np.ndarray) or each.flags.owndata


def test_workers_read_a_table(tmp_path: Path) -> None:
    made = rows()
    draw(tmp_path, made)
    source = Table(write(tmp_path, made), TARGETS, image="image", mode="L", features=["area"], stratify="kind")
    data = MultiTaskDataModule({"photos": source}, num_workers=2, eval_batch_size=4)
    greys = torch.cat([batch.inputs["image"][:, 0, 0, 0] for batch in data.test_dataloader()])
    split = source.split("test")
    assert (greys * 255).round().tolist() == [int(Path(split.key(row)).stem) for row in range(len(split))]


YAML = """
name: passengers
data:
  sources:
    passengers:
      class_path: Table
      init_args:
        path: passengers.csv
        features: [age, cabin]
        targets:
          class:
          fare: {kind: continuous, unit: £}
          survived: {classes: ["no", "yes"]}
        stratify: class
  sampling: {class_path: Shared, init_args: {batch_size: 16}}
model:
  backbone: {class_path: MLP, init_args: {hidden: [16]}}
  optimizer: {class_path: AdamW, init_args: {lr: 0.01}}
trainer: {accelerator: cpu, max_epochs: 8, enable_progress_bar: false, enable_model_summary: false}
"""


def test_a_table_of_features_is_fitted_and_predicted(train_here: Callable, tmp_path: Path) -> None:
    rng = random.Random(0)
    made = []
    for _ in range(200):
        age, cabin = rng.randrange(80), rng.choice(["A", "B", "C"])
        made.append(
            {
                "age": str(age) if rng.random() > 0.1 else "",
                "cabin": cabin,
                "class": {"A": "first", "B": "second", "C": "third"}[cabin] if rng.random() > 0.3 else "",
                "fare": str(10 + age / 2) if rng.random() > 0.3 else "",
                "survived": "yes" if cabin == "A" else "no",
            }
        )
    write(tmp_path, made, "passengers.csv")
    (tmp_path / "passengers.yaml").write_text(YAML)
    train_here("fit", "--config", "passengers.yaml")
    train_here("predict", "--config", "passengers.yaml", "--data.sources.passengers.init_args.seed", "0")
    (file,) = (tmp_path / "runs/passengers").glob("**/predictions.csv")
    with file.open(newline="") as lines:
        predicted = list(csv.DictReader(lines))
    test = Table(tmp_path / "passengers.csv", ["class"], features=["age"], stratify="class").split("test")
    assert len(predicted) == len(test) == 30
    assert {line["class"] for line in predicted} <= {"first", "second", "third"}
    assert [line["sample"] for line in predicted] == [test.key(row) for row in range(30)]
    right = [line["survived"] == made[int(line["sample"])]["survived"] for line in predicted]  # the cabin says it all
    assert sum(right) >= 28
    assert all(0 < float(line["fare (£)"]) < 60 for line in predicted)
