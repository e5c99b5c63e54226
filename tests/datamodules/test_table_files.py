"""How a table's file may be written: blank lines, spellings, and columns that nobody asked for."""

from pathlib import Path

import polars as pl
import pytest

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import SPLITS, Table
from datamodules.splits.folds import Folds

THIRDS = (0.34, 0.33, 0.33)


def keys(table: Table) -> list[str]:
    return sorted((split.key(row) for split in map(table.split, SPLITS) for row in range(len(split))), key=str)


@pytest.mark.parametrize("split", [None, "part"])
def test_blank_lines_are_no_rows_but_count(tmp_path: Path, split: str | None) -> None:
    lines = [f"{r}.png,{r}.5,{'ab'[r % 2]},{SPLITS[r % 3]},g{r}" for r in range(12)]
    lines[4], lines[7] = "", ' , ,"",,'
    (tmp_path / "t.csv").write_text("\n".join(["image,x,y,part,who", *lines, "", "", ""]))
    rows = [row for row in range(12) if row not in (4, 7)]
    features = Table(tmp_path / "t.csv", ["y"], features=["x"], split=split, fractions=THIRDS, group="who")
    assert keys(features) == sorted(map(str, rows))
    images = Table(tmp_path / "t.csv", ["y"], image="image", split=split, fractions=THIRDS)
    assert keys(images) == sorted(f"{row}.png" for row in rows)
    for name in SPLITS:
        assert images.split(name).labelled["y"].all()
        assert all(images.split(name).name(r).startswith(f"row {int(images.split(name).key(r)[:-4])} ") for r in (0, 1))


def test_blank_lines_are_no_rows_of_a_fold_either(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{r}.5,{'ab'[r % 2]}\n\n" for r in range(30)))
    table = Table(tmp_path / "t.csv", ["y"], features=["x"]).folded(Folds(3, 0))
    assert keys(table) == sorted(str(2 * row) for row in range(30))


def test_blanks_around_a_path_and_capitals_of_a_split_and_a_suffix(tmp_path: Path) -> None:
    names = ["Train", "TRAIN", "train", "Val", "TEST"]
    (tmp_path / "T.CSV").write_text(
        "image,y,part\n" + "".join(f"{r}.png ,{'ab'[r % 2]},{n}\n" for r, n in enumerate(names))
    )
    table = Table(tmp_path / "T.CSV", ["y"], image="image", split="part")
    assert [len(table.split(name)) for name in SPLITS] == [3, 1, 1]
    assert keys(table) == [f"{row}.png" for row in range(5)]


def test_a_parquet_file_in_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pl.DataFrame({"x": [0.5, 1.5, 2.5], "y": ["a", "b", "a"]}).write_parquet(tmp_path / "t.PARQUET")
    assert len(keys(Table(Path("~/t.PARQUET"), ["y"], features=["x"], fractions=THIRDS))) == 3


def test_columns_of_a_parquet_file_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    """The pages of the other column are broken."""
    path = tmp_path / "t.parquet"
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5], "y": ["a", "b", "a"], "other": ["findme" * 50] * 3})
    frame.write_parquet(path, compression="uncompressed", statistics=False)
    content = path.read_bytes()
    start = content.index(b"findme") - 40
    path.write_bytes(content[:start] + b"\xff" * 60 + content[start + 60 :])
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the library says of a broken page
        pl.read_parquet(path)
    assert len(keys(Table(path, ["y"], features=["x"], fractions=THIRDS))) == 3


def test_groups_that_are_equal_as_numbers_are_apart(tmp_path: Path) -> None:
    names = ["2.5", "2.50", "NA", "1e3", "1000"]
    lines = [f"{r}.5,{'ab'[r % 2]},{names[r // 8]}" for r in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,who", *lines, ""]))
    table = Table(tmp_path / "t.csv", ["y"], features=["x"], group="who", fractions=THIRDS)
    assert sum(len(table.split(name).groups.unique()) for name in SPLITS) == 5


def test_groups_of_long_numbers_are_apart(tmp_path: Path) -> None:
    lines = [f"{r}.5,{'ab'[r % 2]},{10**19 + r // 4}" for r in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,who", *lines, ""]))
    split = Table(tmp_path / "t.csv", ["y"], features=["x"], group="who").split("train")
    assert len(split.groups.unique()) == len(split) / 4


def test_the_same_image_spelled_in_two_ways_is_one_group(tmp_path: Path) -> None:
    lines = [f"{['', './'][r % 2]}{r // 2}.png,{'ab'[r % 2]}" for r in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["image,y", *lines, ""]))
    split = Table(tmp_path / "t.csv", ["y"], image="image", group="image").split("train")
    assert len(split.groups.unique()) == len(split) / 2


@pytest.mark.parametrize(("features", "lines"), [(["sex", "age"], "{sex},{age}"), (["height"], "{row}.5")])
def test_rows_that_only_look_like_copies(tmp_path: Path, features: list[str], lines: str) -> None:
    """Equal rows of a few classes; and equal wanted columns of rows with an `id`."""
    rows = [
        {"sex": "fm"[r % 2], "age": r % 4, "row": r % 3, "y": "ab"[r % 5 % 2], "part": SPLITS[r % 3]} for r in range(60)
    ]
    ids = features == ["height"]
    text = [lines.format(**row) + f",{row['y']},{row['part']}" + (f",{n}" if ids else "") for n, row in enumerate(rows)]
    header = ",".join([*features, "y", "part", *(["id"] if ids else [])])
    (tmp_path / "t.csv").write_text("\n".join([header, *text, ""]))
    assert len(keys(Table(tmp_path / "t.csv", ["y"], features=features, split="part"))) == 60


@pytest.mark.parametrize("stratify", [None, "y"])
def test_classes_of_few_rows_are_trained(tmp_path: Path, stratify: str | None) -> None:
    lines = [f"{r}.5,{'a' if r < 50 else f'r{r}'},{'u|v' if r == 30 else 'u'}" for r in range(55)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,tags", *lines, ""]))
    for seed in range(5):
        MultiTaskDataModule(
            {"t": Table(tmp_path / "t.csv", ["y", "tags"], features=["x"], stratify=stratify, seed=seed)}
        )
