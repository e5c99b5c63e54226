"""Tables and arguments that are refused, each in one line that names the file and the row."""

import re
from pathlib import Path

import polars as pl
import pytest

from datamodules.sources import Table

LINES = ["image,kind,size,word,part", *(f"i{r}.png,{'abc'[r % 3]},{r}.5,{'uv'[r % 2]},train" for r in range(20))]
IN_SPLITS = [LINES[0], *(line.replace("train", ["train", "val", "test"][r % 3]) for r, line in enumerate(LINES[1:]))]


def change(lines: list[str], row: int, old: str, new: str) -> list[str]:
    """`lines` with a row (-1 is the header) changed."""
    assert old in lines[row + 1]
    return [line.replace(old, new) if at == row + 1 else line for at, line in enumerate(lines)]


IMAGES = {"targets": ["kind"], "image": "image"}
FEATURES = {"targets": ["kind"], "features": ["size"]}
REFUSED = {
    "an empty file": ([], IMAGES, "{path}: a table must have a header, found an empty first line"),
    "a header alone": (LINES[:1], IMAGES, "{path}: a table must have at least one row, found none below its header"),
    "a column that is not there": (
        LINES,
        {"targets": ["knid"], "image": "image"},
        "t.csv: a column must be in the header, found no 'knid'; near it: ['kind']",
    ),
    "a column unlike any": (
        LINES,
        {**IMAGES, "group": "patient"},
        "t.csv: a column must be in the header, found no 'patient'; there are: ['image', 'kind', 'size',",
    ),
    "a column twice": (
        change(LINES, -1, "size", "kind"),
        IMAGES,
        "t.csv, column 'kind': must be in the header once, found 2 times",
    ),
    "a row with too many cells": (
        change(LINES, 7, "b", "b,b"),
        IMAGES,
        "{path}: must be a whole csv table, found: 6 cells in row 7 under a header of 5",
    ),
    "a row with too few cells": (
        change(LINES, 7, "b,7.5,v,train", "b,7.5"),
        IMAGES,
        "{path}: must be a whole csv table, found: 3 cells in row 7 under a header of 5",
    ),
    "semicolons": (
        [line.replace(",", ";") for line in LINES],
        IMAGES,
        "{path}: cells must be divided by commas, found the header 'image;kind;size;word;part'",
    ),
    "backslashes in a path": (
        change(LINES, 5, "i5.png", "img\\i5.png"),
        IMAGES,
        "row 5 of t.csv, column 'image': a path must have forward slashes, found 'img\\\\i5.png'",
    ),
    "a column that cannot be a task's name": (
        change(LINES, -1, "kind", "my y"),
        {"targets": ["my y"], "image": "image"},
        "t.csv: a task's name must be of letters, digits, '_' and '-', found 'my y'; "
        "name it apart from its column: {{my_y: {{column: my y}}}}",
    ),
    "an empty image cell": (
        change(LINES, 5, "i5.png", " "),
        IMAGES,
        "row 5 of t.csv, column 'image': must name an image file, found an empty cell",
    ),
    "an unknown split": (
        change(IN_SPLITS, 4, "val", "valid"),
        {**IMAGES, "split": "part"},
        "row 4 of t.csv, column 'part': a cell must be one of train, val, test, found 'valid'",
    ),
    "an empty split cell": (
        change(IN_SPLITS, 4, "val", ""),
        {**IMAGES, "split": "part"},
        "row 4 of t.csv, column 'part': a cell must be one of train, val, test, found an empty cell",
    ),
    "a split without rows": (
        LINES,
        {**IMAGES, "split": "part"},
        "t.csv, column 'part': each of train, val, test must have a row, found none of 'val'",
    ),
    "an image in two splits": (
        change(IN_SPLITS, 8, "i8.png", "i3.png"),
        {**IMAGES, "split": "part"},
        "t.csv: the same image must not be in two splits, found row 3 in 'train' and row 8 in 'test' (i3.png); ",
    ),
    "a row of features in two splits": (
        change(IN_SPLITS, 8, "i8.png,c,8.5,u", "i3.png,a,3.5,v"),
        {**FEATURES, "split": "part"},
        "t.csv: a row that is the same but for 'part' must not be in two splits, found row 3 in 'train' and row 8 in",
    ),
    "an image in two splits, spelled in two ways": (
        change(IN_SPLITS, 8, "i8.png", "./x//../i3.png"),
        {**IMAGES, "split": "part"},
        "t.csv: the same image must not be in two splits, found row 3 in 'train' and row 8 in 'test' (./x//../i3.png)",
    ),
    "a group in two splits": (
        IN_SPLITS,
        {**FEATURES, "split": "part", "group": "word"},
        "t.csv: a group must not be in two splits, found row 0 in 'train' and row 2 in 'test'",
    ),
    "a row without a group": (
        change(LINES, 6, ",u,", ",,"),
        {**FEATURES, "group": "word"},
        "row 6 of t.csv, column 'word': a row must have a group, found an empty cell",
    ),
    "fractions beyond one": (
        LINES,
        {**IMAGES, "fractions": (0.8, 0.2, 0.2)},
        "t.csv: `fractions` must be positive and add up to 1, found [0.8, 0.2, 0.2]",
    ),
    "a split of the fractions without rows": (
        LINES[:4],
        {**IMAGES, "targets": ["size"]},
        "t.csv: `fractions` must give each split a row, found [0.7, 0.15, 0.15] of 3 rows",
    ),
    "fewer groups than splits": (
        LINES,
        {**IMAGES, "group": "word"},
        "t.csv: `group` must have a group for each of 3 splits, found 2",
    ),
    "strata of a number": (
        LINES,
        {"targets": ["kind", "size"], "image": "image", "stratify": "size"},
        "t.csv: `stratify` must be a categorical or binary target of {{'kind': 'categorical', 'size': 'continuous'}}",
    ),
    "strata of no target": (
        LINES,
        {**IMAGES, "stratify": "word"},
        "t.csv: `stratify` must be a categorical or binary target of {{'kind': 'categorical'}}, found 'word'",
    ),
    "strata and a split column": (
        IN_SPLITS,
        {**IMAGES, "stratify": "kind", "split": "part"},
        "t.csv: `stratify` must not be given with `split`, found 'kind' and 'part'",
    ),
    "neither image nor features": (
        LINES,
        {"targets": ["kind"]},
        "t.csv: `image` or `features` must name a column, found neither",
    ),
    "a target that is a feature": (
        LINES,
        {"targets": ["kind", "size"], "features": ["word", "size"]},
        "t.csv: a target must not be an input or the split as well, found ['size']",
    ),
    "a feature twice": (
        LINES,
        {"targets": ["kind"], "features": ["word", "word"]},
        "t.csv: `features` must name a column once, found ['word'] more than once",
    ),
    "a mixture in a feature": (
        change(LINES, 9, "9.5", "nine"),
        FEATURES,
        "row 9 of t.csv, column 'size': a cell must be a number, as most of the column are, found 'nine'; a feature is",
    ),
    "an empty feature": (
        [",".join([*line.split(",")[:3], "", "train"]) if row else line for row, line in enumerate(LINES)],
        {"targets": ["kind"], "features": ["word"]},
        "t.csv, column 'word': a feature must have a value, found empty cells only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_table(tmp_path: Path, case: str) -> None:
    lines, options, message = REFUSED[case]
    path = tmp_path / "t.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}") as refused:
        Table(path, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", None, "{path}: the table must be there, found no such file"),
        ("t.tsv", b"a\n1\n", "{path}: a table's suffix must be .csv or .parquet, found '.tsv'"),
        ("t.csv", "image,kind\nä.png,a\n".encode("latin1"), "{path}: must be a whole csv table, found: "),
        ("t.parquet", b"image,kind\n1,2\n", "{path}: must be a whole parquet table, found: "),
    ],
    ids=["missing", "suffix", "encoding", "no parquet"],
)
def test_refused_file(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}") as refused:
        Table(path, **IMAGES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        (
            [1.0, float("inf"), 2.0],
            {"features": ["x"]},
            "row 1 of t.parquet, column 'x': a feature must be finite and within ±3.4e+38, found inf",
        ),
        (
            [[1], [2], [3]],
            {"features": ["x"]},
            "t.parquet, column 'x': a feature must be of text, numbers, dates or booleans, found",
        ),
        ([1, 2, 3], {"image": "x"}, "t.parquet, column 'x': image files must be text, found Int64"),
    ],
    ids=["infinite feature", "feature of lists", "images that are numbers"],
)
def test_refused_column_of_a_parquet_file(tmp_path: Path, column: list, options: dict, message: str) -> None:
    pl.DataFrame({"x": column, "y": ["a", "b", "c"]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Table(tmp_path / "t.parquet", ["y"], **options)


def test_a_table_may_begin_with_a_byte_order_mark_and_end_its_lines_as_windows_does(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in IN_SPLITS).encode())
    table = Table(tmp_path / "t.csv", ["kind"], image="image", split="part")
    assert [table.split("val").key(row) for row in range(3)] == ["i1.png", "i4.png", "i7.png"]
