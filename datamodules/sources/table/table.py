"""A CSV or Parquet file, a row a sample."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from posixpath import normpath
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.contract import Columns, Contract, Feature, contract_in_force
from datamodules.errors import DataError
from datamodules.sources.base import Source
from datamodules.sources.images import ImageMode
from datamodules.sources.split import SPLITS, SplitName
from datamodules.sources.table.features import FeatureColumn, Features
from datamodules.sources.table.kinds import Column, labels_of, read_labels
from datamodules.sources.table.reading import first, first_of_same, place, read_table
from datamodules.sources.table.splits import FeatureRows, ImageRows
from datamodules.splits.folds import Folds, strata_of
from datamodules.splits.splitting import members_of, split_rows
from datamodules.targets import Target


class Table(Source):
    """A table whose columns name images, hold features, or both, and hold the labels of any tasks.

    An empty cell of a target column is a missing label. A row is called by its place below the header, from 0.

    Args:
        path: A CSV file (commas, UTF-8, a header) or a Parquet file; `~` is the user's own folder. A blank line of a
            CSV is no row, but counts where rows are called by their place.
        targets: The target columns, which are the tasks: a list, or task → what its column holds, null to infer it.
        image: The column of image files, relative to the table's folder.
        mode: "RGB" for images of three channels, "L" for grey ones.
        features: Columns of numbers, standardised by the training split, of text and booleans, one-hot, or of dates: a
            list, or column → how it is taken, null to infer it. An empty cell is 0, and where training rows have such,
            one more input says so. A row's input is its image, its features [F], or a dict of `image` and `features`.
            Tables of one run have the same features, and all of their training splits are taken together.
        split: The column that says train, val or test, in small letters or capitals. Without images, but with a feature
            of real numbers, rows of two splits must not be copies: equal in all other columns of the file.
        fractions: Without it, the share of rows for training, validation and test. A class that would have no row for
            training gets its first one there.
        stratify: A target with classes, each of which is divided by the fractions too, as are the rows without one.
        group: A column; rows of the same value are in the same split, and in the same fold.
        seed: Of the division by fractions. Not the seed of the training run.

    Raises:
        ValueError: The file or a column is not there, a cell is not what its column must hold, the same image or group
            is in two splits, or arguments contradict each other.
    """

    def __init__(
        self,
        path: Path,
        targets: list[str] | dict[str, Column | None],
        image: str | None = None,
        mode: ImageMode = "RGB",
        features: list[str] | dict[str, FeatureColumn | None] | None = None,
        split: str | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        stratify: str | None = None,
        group: str | None = None,
        seed: int = 0,
    ) -> None:
        self.path, self.mode, self._image = Path(path).expanduser(), mode, image
        given = dict.fromkeys(targets) if isinstance(targets, list) else targets
        columns = {task: column or Column() for task, column in given.items()}
        names = self._names = {task: column.column or task for task, column in columns.items()}
        taken = {name: column or FeatureColumn() for name, column in _by_name(features).items()}
        contract = contract_in_force()
        known = _known_features(contract, list(taken))
        _check_arguments(self.path.name, names, image, list(features or ()), split, stratify)
        cells = read_table(
            self.path,
            [name for name in (*names.values(), image, *taken, split, group) if name is not None],
            texts=[name for name in (image, group) if name is not None],
            classes={names[task]: [str(each) for each in column.classes or ()] for task, column in columns.items()},
            same_but=None if image else split,
            untyped=[name for name, feature in known.items() if feature.kind != "numbers"],
        )
        self._alike: list[Table] | None = None  # this one alone
        frame, self._blank = cells.columns, torch.tensor(cells.blank.to_numpy())
        trained = contract.targets if contract and contract.whole else {}
        labels = {
            task: labels_of(self.path.name, frame[names[task]], trained[task])
            if task in trained
            else read_labels(self.path.name, frame[names[task]], column)
            for task, column in columns.items()
        }
        self.targets: dict[str, Target] = {task: each.target for task, each in labels.items()}
        self._labels = {task: each.values for task, each in labels.items()}
        self._labelled = {task: each.labelled for task, each in labels.items()}
        taken |= {name: FeatureColumn(feature.kind) for name, feature in known.items()}
        self._features = Features(self.path.name, [frame[name] for name in taken], taken) if taken else None
        self._known = tuple(known.values())
        self._paths = image_paths(self.path.name, frame[image], cells.blank) if image else None
        self._same_image = None if self._paths is None else _same(pl.Series(map(normpath, self._paths)))
        self._groups = _groups(self.path.name, frame[group], cells.blank) if group else None
        if group is not None and group == image:
            self._groups = self._same_image
        parts = self._given_parts(frame[split], cells.blank) if split else self._drawn_parts(fractions, stratify, seed)
        if cells.same is not None and self._features is not None and self._features.real:
            same = torch.tensor(cells.same.to_numpy())
            self._refuse_shared(same, parts, f"a row that is the same but for {split!r} must not be")
        self._place(parts)

    def split(self, name: SplitName) -> FeatureRows | ImageRows:
        """Inputs are images, features [N, F], or both."""
        rows = self._rows[name]
        features = None if self._features is None else self._features.of(rows, self.columns.features)
        labels = {task: values[rows] for task, values in self._labels.items()}
        labelled = {task: mask[rows] for task, mask in self._labelled.items()}
        groups = None if self._groups is None else self._groups[rows]
        if self._paths is not None:
            paths = self._paths[rows.numpy()].tolist()
            return ImageRows(self.path, rows, paths, self.mode, features, labels, labelled, groups)
        assert features is not None
        return FeatureRows(self.path.name, rows, features, labels, labelled, groups)

    @cached_property
    def columns(self) -> Columns:  # type: ignore[override]  # worked out where it is asked for
        """Where the inputs and labels are, and what the training rows say of the features, or said in the contract."""
        alike = [(table._features, table._rows["train"]) for table in self._alike or [self] if table._features]
        features = self._known or (self._features.fitted(alike) if self._features else ())
        return Columns(self._image, self.mode, features, self._names)

    def folded(self, folds: Folds) -> Table:
        """This table with a fold for validation; the features' statistics are those of the new training rows."""
        rows = torch.cat([self._rows["train"], self._rows["val"]]).sort().values
        labels, labelled = ({task: each[rows] for task, each in of.items()} for of in (self._labels, self._labelled))
        strata = None if folds.stratify is None else self._strata(folds.stratify)
        groups = None if self._groups is None else self._groups[rows]
        members = members_of(self.targets, labels, labelled)
        held_out = folds.held_out(len(rows), None if strata is None else strata[rows], groups, members)
        parts = self._blank.long().neg()
        parts[self._rows["test"]] = SPLITS.index("test")
        parts[rows] = torch.where(held_out, SPLITS.index("val"), SPLITS.index("train"))
        table = self._copied()
        table._place(parts)
        return table

    def aligned(self, name: str, sources: Mapping[str, Source]) -> Source:
        """This table; its features, if it has any, encoded by the training rows of all tables with features.

        Raises:
            ValueError: Another table does not have the same features in the same order, of the same kinds.
        """
        if self._features is None:
            return self
        tables = {key: each for key, each in sources.items() if isinstance(each, Table)}
        kinds = {key: table._features.kinds for key, table in tables.items() if table._features}
        other, expected = next(iter(kinds.items()))
        if list(self._features.kinds.items()) != list(expected.items()):
            rule = f"features must be those of the other table, {other!r}, {expected}"
            raise DataError(f"data.sources.{name}", rule, self._features.kinds)
        table = self._copied()
        table._alike = [tables[key] for key in kinds]
        return table

    def _copied(self) -> Table:
        """Another one, of which the columns are worked out anew."""
        table = copy.copy(self)
        table.__dict__.pop("columns", None)
        return table

    def _given_parts(self, cells: pl.Series, blank: pl.Series) -> Tensor:
        """The split [N] of every row, as the split column says, -1 for a blank line."""
        text = cells.cast(pl.String)
        parts = text.str.to_lowercase().cast(pl.Enum(SPLITS), strict=False).to_physical()
        where = place(self.path.name, cells.name)
        if (parts.is_null() & ~blank).any():
            row = first(parts.is_null() & ~blank)
            found = "an empty cell" if text[row] is None else repr(text[row])
            where = place(self.path.name, cells.name, row)
            raise DataError(where, f"a cell must be one of {', '.join(SPLITS)}", found)
        for number, name in enumerate(SPLITS):
            if not (parts == number).any():
                raise DataError(where, f"each of {', '.join(SPLITS)} must have a row", f"none of {name!r}")
        return torch.tensor(parts.cast(pl.Int64).fill_null(-1).to_numpy())

    def _drawn_parts(self, fractions: Sequence[float], stratify: str | None, seed: int) -> Tensor:
        """The split [N] of every row, divided by the fractions, -1 for a blank line."""
        parts = self._blank.long().neg()
        rows = (~self._blank).nonzero().squeeze(1)
        strata = torch.zeros_like(parts) if stratify is None else self._strata(stratify)
        if strata is None:
            known = {task: type(target).__name__.lower() for task, target in self.targets.items()}
            raise DataError(
                self.path.name, f"`stratify` must be a categorical or binary target of {known}", repr(stratify)
            )
        groups = None if self._groups is None else self._groups[rows].numpy()
        labels, labelled = ({task: each[rows] for task, each in of.items()} for of in (self._labels, self._labelled))
        members = members_of(self.targets, labels, labelled)
        try:
            parts[rows] = torch.from_numpy(split_rows(fractions, strata[rows].numpy(), groups, seed, members))
        except DataError as error:
            raise DataError(self.path.name, str(error)) from error
        return parts

    def _strata(self, task: str) -> Tensor | None:
        """Class numbers [N], -1 without a label; None if the table does not carry the task or it has no classes."""
        if task not in self.targets or not self.targets[task].exclusive:
            return None
        return strata_of(self.targets[task], self._labels[task], self._labelled[task])

    def _place(self, parts: Tensor) -> None:
        """Put every row into its split, `parts` [N], or -1 for none; refuse what two splits must not share."""
        if self._same_image is not None:
            self._refuse_shared(self._same_image, parts, "the same image must not be", "; `group` keeps rows together")
        if self._groups is not None:
            self._refuse_shared(self._groups, parts, "a group must not be")
        self._rows = {name: (parts == number).nonzero().squeeze(1) for number, name in enumerate(SPLITS)}

    def _refuse_shared(self, same: Tensor, parts: Tensor, rule: str, way_out: str = "") -> None:
        """Refuse rows in two splits; `same` [N] is the first row that is the same as each row."""
        apart = (parts != parts[same]).nonzero()
        if len(apart):
            row = int(apart[0])
            other = int(same[row])
            image = f" ({self._paths[row]})" if self._paths is not None else ""
            raise DataError(
                self.path.name,
                f"{rule} in two splits",
                f"row {other} in {SPLITS[int(parts[other])]!r} and row {row} in "
                f"{SPLITS[int(parts[row])]!r}{image}{way_out}",
            )


def _by_name(features: list[str] | dict[str, FeatureColumn | None] | None) -> dict[str, FeatureColumn | None]:
    """Column → how it is taken, as far as that is given."""
    return features if isinstance(features, dict) else dict.fromkeys(features or ())


def _known_features(contract: Contract | None, columns: Sequence[str]) -> dict[str, Feature]:
    """What training knew of the feature columns, if it had these; else nothing."""
    known = {feature.name: feature for feature in contract.columns.features} if contract else {}
    return known if list(known) == list(columns) else {}


def _check_arguments(
    table: str,
    names: Mapping[str, str],
    image: str | None,
    features: Sequence[str],
    split: str | None,
    stratify: str | None,
) -> None:
    """Refuse arguments that contradict each other; `names` is task → column."""
    targets = list(names.values())
    for task, column in names.items():
        if not re.fullmatch(r"[\w-]+", task):
            other = re.sub(r"[^\w-]+", "_", task)
            raise DataError(
                table,
                "a task's name must be of letters, digits, '_' and '-'",
                f"{task!r}; name it apart from its column: {{{other}: {{column: {column}}}}}",
            )
    if image is None and not features:
        raise DataError(table, "`image` or `features` must name a column", "neither")
    if both := [name for name in targets if name in (image, *features, split)]:
        raise DataError(table, "a target must not be an input or the split as well", both)
    for name, columns in (("targets", targets), ("features", features)):
        if twice := sorted({each for each in columns if columns.count(each) > 1}):
            raise DataError(table, f"`{name}` must name a column once", f"{twice} more than once")
    if split is not None and stratify is not None:
        raise DataError(table, "`stratify` must not be given with `split`", f"{stratify!r} and {split!r}")


def image_paths(table: str, cells: pl.Series, blank: pl.Series) -> NDArray[Any]:
    """Image files [N], in one block of memory, empty where a line is blank.

    Raises:
        ValueError: A cell is empty or no text, or a path has backslashes.
    """
    if cells.dtype != pl.String:
        raise DataError(place(table, cells.name), "image files must be text", cells.dtype)
    empty = cells.is_null() & ~blank
    if empty.any():
        raise DataError(place(table, cells.name, first(empty)), "must name an image file", "an empty cell")
    slashes = cells.str.contains("\\", literal=True).fill_null(False)
    if slashes.any():
        row = first(slashes)
        raise DataError(place(table, cells.name, row), "a path must have forward slashes", repr(cells[row]))
    return np.array(cells.fill_null("").to_list(), dtype=np.dtypes.StringDType())


def _groups(table: str, cells: pl.Series, blank: pl.Series) -> Tensor:
    """A number [N] of each row's group: its first row."""
    empty = cells.is_null() & ~blank
    if empty.any():
        raise DataError(place(table, cells.name, first(empty)), "a row must have a group", "an empty cell")
    return _same(cells)


def _same(cells: pl.Series) -> Tensor:
    """The first row [N] with the same cell as each row."""
    return torch.tensor(first_of_same(cells.to_frame()).to_numpy())
