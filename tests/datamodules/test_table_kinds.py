"""What a column's cells make of it: kind, classes, labels, and what is refused."""

import datetime
import re
from pathlib import Path

import polars as pl
import pytest
import torch

from datamodules.sources import Column, Table
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target

THIRDS = (0.34, 0.33, 0.33)


def csv(folder: Path, cells: list[str]) -> Path:
    """A table of one feature, which counts, and the column `y`."""
    lines = [f"{row},{cell}" for row, cell in enumerate(cells)]
    (folder / "t.csv").write_text("\n".join(["x,y", *lines, ""]))
    return folder / "t.csv"


def parquet(folder: Path, cells: list, dtype: pl.DataType | None = None) -> Path:
    pl.DataFrame({"x": range(len(cells)), "y": pl.Series(cells, dtype=dtype)}).write_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def labels(table: Table, task: str = "y") -> list:
    """Every row's label in the order of the file, None where it is missing."""
    found = {}
    for name in ("train", "val", "test"):
        split = table.split(name)
        for row in range(len(split)):
            label = split.labels_of(row)[task].tolist()
            found[int(split.key(row))] = label if split.labelled[task][row] else None
    return [found[row] for row in range(len(found))]


INFERRED = {
    "words": (["cat", "dog", "", "ant"], Categorical(("ant", "cat", "dog")), [1, 2, None, 0]),
    "words with blanks around them": (["cat", " cat", "dog ", "a"], Categorical(("a", "cat", "dog")), [1, 1, 2, 0]),
    "two words": (["yes", "no", "", "yes"], Binary(("no", "yes")), [1, 0, None, 1]),
    "two other words": (["male", "female", '""', "male"], Binary(("female", "male")), [1, 0, None, 1]),
    "two booleans": (["True", "False", "", "True"], Binary(("False", "True")), [1, 0, None, 1]),
    "two integers": (["1", "0", "", "1"], Binary(("0", "1")), [1, 0, None, 1]),
    "two integers, sorted as numbers": (["10", "9", "", "10"], Binary(("9", "10")), [1, 0, None, 1]),
    "two real numbers": (["1.0", "0.0", "nan", "1.0"], Binary(("0", "1")), [1, 0, None, 1]),
    "two fractions": (["0.5", "0.25", "", "0.5"], Binary(("0.25", "0.5")), [1, 0, None, 1]),
    "integers with gaps": (["1", "", "10", "9"], Categorical(("1", "9", "10")), [0, None, 2, 1]),
    "20 integers": ([str(i) for i in range(20)], Categorical(tuple(str(i) for i in range(20))), list(range(20))),
    "21 integers": ([str(i) for i in range(21)], Continuous(), list(range(21))),
    "real numbers": (["1.5", "2", "", "NaN", "-1e3"], Continuous(), [1.5, 2, None, None, -1000]),
    "integers with gaps, as pandas writes them": (
        ["0.0", "1.0", "", "3.0"],
        Categorical(("0", "1", "3")),
        [0, 1, None, 2],
    ),
    "whole real numbers without a gap": (["0.0", "1.0", "3.0"], Continuous(), [0, 1, 3]),
    "a missing word of pandas": (
        ["cat", "nan", "NaN", "dog", "ant"],
        Categorical(("ant", "cat", "dog")),
        [1, None, None, 2, 0],
    ),
    "a missing word of R": (["cat", "NA", "dog", "ant"], Categorical(("ant", "cat", "dog")), [1, None, 2, 0]),
    "a missing number of R": (["1.5", "NA", "2.5", "3.5"], Continuous(), [1.5, None, 2.5, 3.5]),
    "integers that 64 bits cannot hold": (
        [str(10**19 + row // 2) for row in range(6)],
        Categorical(tuple(str(10**19 + number) for number in range(3))),
        [0, 0, 1, 1, 2, 2],
    ),
    "numbers that single precision takes for one": (
        [str(1_700_000_000 + row / 2) for row in range(4)],
        Continuous(),
        [1_700_000_000 + row / 2 for row in range(4)],
    ),
    "codes with leading zeros": (["007", "012", "7", ""], Categorical(("007", "012", "7")), [0, 1, 2, None]),
    "a word called Nan": (["Nan", "Bob", "Ann", ""], Categorical(("Ann", "Bob", "Nan")), [2, 1, 0, None]),
    "several labels": (
        ["b|a", "c", "", "|", " a | c "],
        MultiLabel(("a", "b", "c")),
        [[1, 1, 0], [0, 0, 1], None, [0, 0, 0], [1, 0, 1]],
    ),
    "two distinct cells of several labels": (
        ["a|b", "a", "", "a"],
        MultiLabel(("a", "b")),
        [[1, 1], [1, 0], None, [1, 0]],
    ),
    "numbers among several labels": (
        ["1|2", "3", "", "1"],
        MultiLabel(("1", "2", "3")),
        [[1, 1, 0], [0, 0, 1], None, [1, 0, 0]],
    ),
}


@pytest.mark.parametrize("case", INFERRED)
def test_inferred_kind(tmp_path: Path, case: str) -> None:
    cells, target, expected = INFERRED[case]
    table = Table(csv(tmp_path, cells), ["y"], features=["x"], fractions=THIRDS)
    assert table.targets == {"y": target}
    assert labels(table) == expected
    assert not any(torch.isnan(table.split(name)._labels["y"]).any() for name in ("train", "val", "test"))


GIVEN = {
    "order of the classes": (["b", "a", "c"], Column(classes=["c", "b", "a"]), Categorical(("c", "b", "a")), [1, 2, 0]),
    "no and yes": (["ill", "well", ""], Column(classes=["well", "ill"]), Binary(("well", "ill")), [1, 0, None]),
    "a class that does not occur": (
        ["a", "b", "a"],
        Column(classes=["a", "b", "z"]),
        Categorical(("a", "b", "z")),
        [0, 1, 0],
    ),
    "a single value": (["a", "a", ""], Column(classes=["b", "a"]), Binary(("b", "a")), [1, 1, None]),
    "a class called NA": (
        ["NA", "EU", "", "nan"],
        Column(classes=["EU", "NA"]),
        Binary(("EU", "NA")),
        [1, 0, None, None],
    ),
    "classes written as numbers": (["2", "1", "3"], Column(classes=[3, 2, 1]), Categorical(("3", "2", "1")), [1, 2, 0]),
    "two values are classes": (["a", "b", "a"], Column(kind="categorical"), Categorical(("a", "b")), [0, 1, 0]),
    "many integers are classes": (
        [str(i) for i in range(25)],
        Column(kind="categorical"),
        Categorical(tuple(str(i) for i in range(25))),
        list(range(25)),
    ),
    "whole real numbers are classes": (
        ["2.0", "1.0", ""],
        Column(kind="categorical"),
        Categorical(("1", "2")),
        [1, 0, None],
    ),
    "a mixture is classes": (["1", "two", "3"], Column(kind="categorical"), Categorical(("1", "3", "two")), [0, 2, 1]),
    "a bar in a class": (["a|b", "c", "a|b"], Column(kind="categorical"), Categorical(("a|b", "c")), [0, 1, 0]),
    "few integers are numbers": (["1", "2", ""], Column(kind="continuous", unit="kg"), Continuous("kg"), [1, 2, None]),
    "constant number": (["7", "7", ""], Column(kind="continuous"), Continuous(), [7, 7, None]),
    "a label a row is several": (
        ["a", "b", "a"],
        Column(kind="multilabel"),
        MultiLabel(("a", "b")),
        [[1, 0], [0, 1], [1, 0]],
    ),
    "order of several labels": (
        ["a|b", "b", "|"],
        Column(classes=["b", "z", "a"]),
        MultiLabel(("b", "z", "a")),
        [[1, 0, 1], [1, 0, 0], [0, 0, 0]],
    ),
}


@pytest.mark.parametrize("case", GIVEN)
def test_given_kind(tmp_path: Path, case: str) -> None:
    cells, column, target, expected = GIVEN[case]
    table = Table(csv(tmp_path, cells), {"y": column}, features=["x"], fractions=THIRDS)
    assert table.targets == {"y": target}
    assert labels(table) == expected


def test_task_of_another_name_than_its_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,Eye colour\n1,blue\n2,brown\n3,green\n")
    table = Table(tmp_path / "t.csv", {"eye": Column(column="Eye colour")}, features=["x"], fractions=THIRDS)
    assert table.targets == {"eye": Categorical(("blue", "brown", "green"))}


@pytest.mark.parametrize(
    ("cells", "dtype", "target"),
    [
        ([True, None, False, True], None, Binary(("false", "true"))),
        ([3, None, 1, 2], pl.Int8, Categorical(("1", "2", "3"))),
        ([1.0, None, 0.0, float("nan")], None, Binary(("0", "1"))),
        ([1.5, None, 0.5, 2.5], pl.Float32, Continuous()),
        (["1", "", "2", "10"], None, Categorical(("1", "10", "2"))),
        (["b", None, "a", "c"], pl.Categorical, Categorical(("a", "b", "c"))),
        ([1, None, 2, 3], pl.Decimal(10, 2), Continuous()),
        ([1.0, None, 2.0, 3.0], None, Categorical(("1", "2", "3"))),
    ],
    ids=[
        "booleans",
        "integers",
        "two reals",
        "reals",
        "texts of digits",
        "categories",
        "decimals",
        "whole reals with a gap",
    ],
)
def test_types_of_a_parquet_file(tmp_path: Path, cells: list, dtype: pl.DataType, target: Target) -> None:
    table = Table(parquet(tmp_path, cells, dtype), ["y"], features=["x"], fractions=THIRDS)
    assert table.targets == {"y": target}
    assert labels(table)[1] is None


def test_integers_that_end_in_text_after_100000_rows(tmp_path: Path) -> None:
    path = csv(tmp_path, [*["1", "2"] * 50_000, "x"])
    message = "row 100000 of t.csv, column 'y': a cell must be a number, as most of the column are, found 'x'; "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}`kind: categorical`"):
        Table(path, ["y"], features=["x"], fractions=THIRDS)


REFUSED = {
    "a number among words": (
        ["a", "b", "12", "c"],
        None,
        "row 2 of t.csv, column 'y': a cell must be text, as most of the column are, found '12';",
    ),
    "a word among numbers": (
        ["1", "2.5", "old", "3"],
        None,
        "row 2 of t.csv, column 'y': a cell must be a number, as most of the column are, found 'old'; `kind:",
    ),
    "infinity among numbers": (["1", "2.5", "inf", "3"], None, "row 2 of t.csv, column 'y': a cell must be a number"),
    "one value": (
        ["a", "", "a"],
        None,
        "t.csv, column 'y': a target must have two distinct values or its `classes` listed, found only 'a'",
    ),
    "no value": (
        ["", "", ""],
        None,
        "t.csv, column 'y': a target must have two distinct values or its `classes` listed, found empty cells only",
    ),
    "class that is not listed": (
        ["a", "b", "", "c"],
        Column(classes=["a", "b"]),
        "row 3 of t.csv, column 'y': a cell must be one of the classes ['a', 'b'], found 'c'",
    ),
    "one of several labels that is not listed": (
        ["a|b", "", "a|c"],
        Column(classes=["a", "b"]),
        "row 2 of t.csv, column 'y': a part of a cell must be one of the classes ['a', 'b'], found 'c'",
    ),
    "text where numbers are to be": (
        ["1", "two", "3"],
        Column(kind="continuous"),
        "row 1 of t.csv, column 'y': a cell must be a number, found 'two'",
    ),
    "binary with three values": (
        ["a", "b", "c"],
        Column(kind="binary"),
        "t.csv, column 'y': a binary target must have two classes, found 3: ['a', 'b', 'c']",
    ),
    "a class twice": (
        ["a", "b", "c"],
        Column(classes=["a", "b", "a"]),
        "t.csv, column 'y': `classes` must be distinct and at least one, found ['a', 'b', 'a']",
    ),
    "booleans of YAML": (
        ["yes", "no", "yes"],
        Column(classes=[False, True]),
        "t.csv, column 'y': `classes` must be text or numbers, found [False, True]; YAML takes yes, no,",
    ),
    "classes of a number": (
        ["1", "2", "3"],
        Column(kind="continuous", classes=["1"]),
        "t.csv, column 'y': `classes` must not be given for a continuous target, found ['1']",
    ),
    "unit of a class": (
        ["a", "b", "c"],
        Column(unit="kg"),
        "t.csv, column 'y': `unit` must be given for a continuous target only, found one for a categorical one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_target(tmp_path: Path, case: str) -> None:
    cells, column, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        Table(csv(tmp_path, cells), {"y": column}, features=["x"], fractions=THIRDS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cells", [[datetime.date(2020, 1, day) for day in (1, 2, 3)], [[1], [2], [3]]])
def test_target_of_dates_or_lists_is_refused(tmp_path: Path, cells: list) -> None:
    with pytest.raises(
        ValueError, match=r"^t\.parquet, column 'y': a target must be of text, numbers or booleans, found"
    ):
        Table(parquet(tmp_path, cells), ["y"], features=["x"], fractions=THIRDS)
