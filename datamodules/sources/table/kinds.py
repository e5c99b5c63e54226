"""What a column of a table says of its rows: the target, and its labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sources.table.reading import EXACT, first, place, refuse_mixture
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target

Kind = Literal["categorical", "binary", "multilabel", "continuous"]
ClassName = str | int | float | bool

MOST_INTEGER_CLASSES = 20


@dataclass
class Column:
    """What a target column holds, where that is not to be inferred.

    Args:
        column: Its name in the file; null if it is that of the task.
        kind: What its labels are. Inferred: "multilabel" if a text has a `|`, else "binary" if there are two distinct
            values, "categorical" for text and for up to 20 distinct integers (whole numbers beside empty cells are
            integers, even if they are written 1.0), "continuous" for other numbers.
        classes: The values in the order of their indices (of no and yes in a binary column), or the classes of a
            multilabel one. Inferred: all that occur, sorted.
        unit: What a continuous column counts or measures.
    """

    column: str | None = None
    kind: Kind | None = None
    classes: list[ClassName] | None = None
    unit: str | None = None


@dataclass
class Labels:
    """The labels of one task.

    Attributes:
        target: What they are.
        values: [N, ...]; zero where the cell is empty.
        labelled: [N] bool: which cells are not.
    """

    target: Target
    values: Tensor
    labelled: Tensor


def read_labels(table: str, cells: pl.Series, given: Column) -> Labels:
    """The labels in a target column.

    Several classes of one row are written `a|b`; a row that has none of them is written `|`.

    Raises:
        ValueError: The column mixes numbers and text, has a single value or one that is not among the classes, is of
            dates or the like, or `given` contradicts itself.
    """
    where = place(table, cells.name)
    if not (cells.dtype.is_numeric() or cells.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise DataError(where, "a target must be of text, numbers or booleans", cells.dtype)
    classes = _class_names(where, given.classes)
    distinct = cells.drop_nulls().unique()
    if len(distinct) < 2 and classes is None and given.kind != "continuous":
        found = f"only {distinct[0]!r}" if len(distinct) else "empty cells only"
        raise DataError(where, "a target must have two distinct values or its `classes` listed", found)
    kind = given.kind or _infer(table, cells, len(distinct) if classes is None else len(classes), classes is not None)
    if kind == "continuous" and classes is not None:
        raise DataError(where, "`classes` must not be given for a continuous target", classes)
    if kind != "continuous" and given.unit is not None:
        raise DataError(where, "`unit` must be given for a continuous target only", f"one for a {kind} one")
    labelled = torch.tensor(cells.is_not_null().to_numpy())
    if kind == "continuous":
        return Labels(Continuous(given.unit), _numbers(table, cells), labelled)
    if kind == "multilabel":
        return _multilabel(table, texts(cells), classes, labelled)
    classes = classes or texts(distinct.sort()).to_list()
    if kind == "binary" and len(classes) != 2:
        raise DataError(where, "a binary target must have two classes", f"{len(classes)}: {classes}")
    index = _index(table, texts(cells), classes)
    if kind == "binary":
        return Labels(Binary((classes[0], classes[1])), index.float(), labelled)
    return Labels(Categorical(tuple(classes)), index, labelled)


def labels_of(table: str, cells: pl.Series, known: Target) -> Labels:
    """The labels in a target column of a target that was trained; rows of other classes have none, and that is said.

    Raises:
        ValueError: A cell of numbers is not one, or the target is of a kind that tables do not hold.
    """
    labelled = cells.is_not_null()
    classes, several = known.class_names, known.label_shape != ()
    if classes is None:
        if several:
            raise DataError(place(table, cells.name), "a target must be of classes or numbers", type(known).__name__)
        return Labels(known, _numbers(table, cells), torch.tensor(labelled.to_numpy()))
    names = texts(cells)
    unseen = _unseen(names, classes, several)
    if unseen.any():
        others = sorted(names.filter(unseen).unique())
        warnings.warn(
            f"{place(table, cells.name)}: {unseen.sum()} rows of classes that were not trained cannot be scored: "
            f"{', '.join(others[:5])}" + (", …" if others[5:] else ""),
            stacklevel=2,
        )
    names, mask = names.set(unseen, None), torch.tensor((labelled & ~unseen).to_numpy())
    if several:
        return Labels(known, _multilabel(table, names, list(classes), mask).values, mask)
    return Labels(known, known.typed(_index(table, names, list(classes)).double()), mask)


def _unseen(names: pl.Series, classes: Sequence[str], several: bool) -> pl.Series:
    """Which cells name a class that is none of `classes`, or, where one may name several, have such a part."""
    distinct = names.drop_nulls().unique().to_list()
    parts = {name: [part.strip() for part in name.split("|")] if several else [name] for name in distinct}
    others = [name for name in distinct if not {*parts[name]} <= {*classes, ""}]
    return names.is_in(others).fill_null(False)


def codes(cells: pl.Series) -> Tensor:
    """Numbers [N] of the distinct values in their order, -1 where the cell is empty."""
    return torch.tensor((cells.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy())


def _class_names(where: str, classes: list[ClassName] | None) -> list[str] | None:
    """The classes as text."""
    if classes is None:
        return None
    if any(isinstance(name, bool) for name in classes):
        raise DataError(
            where,
            "`classes` must be text or numbers",
            f"{classes}; YAML takes yes, no, true and false for text within quotes only",
        )
    names = [str(name) for name in classes]
    if not names or len(set(names)) < len(names):
        raise DataError(where, "`classes` must be distinct and at least one", names)
    return names


def _infer(table: str, cells: pl.Series, values: int, listed: bool) -> Kind:
    """The kind of a column with so many distinct `values`, `listed` by the user or not."""
    if cells.dtype == pl.String and cells.str.contains("|", literal=True).any():
        return "multilabel"
    if not listed:
        refuse_mixture(table, cells, "`kind: categorical` takes every cell for a class")
    if values == 2:
        return "binary"
    few = cells.dtype.is_integer() and values <= MOST_INTEGER_CLASSES
    return "categorical" if listed or few or not cells.dtype.is_numeric() else "continuous"


def texts(cells: pl.Series) -> pl.Series:
    """Cells as class names: whole numbers without a fraction, booleans as true and false."""
    if cells.dtype.is_float() and ((cells % 1 == 0) & (cells.abs() < EXACT)).all():
        cells = cells.cast(pl.Int64)
    return cells.cast(pl.String)


def _index(table: str, texts: pl.Series, classes: list[str]) -> Tensor:
    """Class indices [N], int64, zero where the cell is empty."""
    index = texts.cast(pl.Enum(classes), strict=False).to_physical()
    unknown = texts.is_not_null() & index.is_null()
    if unknown.any():
        row = first(unknown)
        raise DataError(place(table, texts.name, row), f"a cell must be one of the classes {classes}", repr(texts[row]))
    return torch.tensor(index.cast(pl.Int64).fill_null(0).to_numpy())


def _numbers(table: str, cells: pl.Series) -> Tensor:
    """Real numbers [N], float64, zero where the cell is empty."""
    numbers = cells.cast(pl.Float64, strict=False)
    wrong = cells.is_not_null() & numbers.is_null()
    if wrong.any():
        row = first(wrong)
        raise DataError(place(table, cells.name, row), "a cell must be a number", repr(cells[row]))
    return torch.tensor(numbers.fill_null(0).to_numpy())


def _multilabel(table: str, texts: pl.Series, classes: list[str] | None, labelled: Tensor) -> Labels:
    """Zeros and ones [N, C]. Every distinct cell is taken apart once."""
    cells = texts.drop_nulls().unique().sort().to_list()
    parts = [[name for part in cell.split("|") if (name := part.strip())] for cell in cells]
    known = classes or sorted({name for each in parts for name in each})
    number = {name: index for index, name in enumerate(known)}
    table_of_cells = np.zeros((len(cells) + 1, len(known)), dtype=np.float32)  # the last is the empty cell
    for row, (cell, names) in enumerate(zip(cells, parts, strict=True)):
        for name in names:
            if name not in number:
                where = place(table, texts.name, first(texts == cell))
                raise DataError(where, f"a part of a cell must be one of the classes {known}", repr(name))
            table_of_cells[row, number[name]] = 1
    return Labels(MultiLabel(tuple(known)), torch.from_numpy(table_of_cells)[codes(texts)], labelled)
