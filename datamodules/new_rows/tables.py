"""New rows in a table: its columns are read as those of training were, whatever is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import torch

from datamodules.contract import Contract, Feature
from datamodules.errors import DataError
from datamodules.new_rows.features import features_of, tell_unknown
from datamodules.new_rows.streamed import StreamedFeatures, streamable
from datamodules.sources.split import Split
from datamodules.sources.table.kinds import labels_of
from datamodules.sources.table.reading import check_columns, columns_of, read_table, tidy
from datamodules.sources.table.splits import FeatureRows, ImageRows
from datamodules.sources.table.table import image_paths


def rows_of_table(path: Path, contract: Contract, key: str, labels: bool) -> Split:
    """The rows of a CSV or Parquet file; those without a label to read are read as they are needed, if they can be.

    Raises:
        ValueError: It is no whole table, or lacks a column, or a cell is not what it must be.
    """
    _check_table_is_taken(contract, key, path)
    columns = contract.columns
    header = columns_of(path)
    tasks = {task: name for task, name in columns.targets.items() if labels or name in header}
    if not tasks and columns.image is None and streamable(path):
        return StreamedFeatures(path, columns.features)
    texts = [feature.name for feature in columns.features if feature.kind != "numbers"]
    names = [*([columns.image] if columns.image else []), *(each.name for each in columns.features), *tasks.values()]
    images = [columns.image] if columns.image else []
    classes = {name: contract.targets[task].class_names or () for task, name in tasks.items()}
    cells = read_table(path, names, texts=images, classes=classes, untyped=texts)
    return _rows(path, cells.columns, cells.blank, tasks, contract)


def rows_of_frame(frame: pl.DataFrame, contract: Contract, key: str, labels: bool) -> Split:
    """The rows of a frame in memory; images are relative to the current folder.

    Raises:
        ValueError: It lacks a column, or a cell is not what it must be.
    """
    _check_table_is_taken(contract, key, "a frame")
    columns = contract.columns
    tasks = {task: name for task, name in columns.targets.items() if labels or name in frame.columns}
    names = [*([columns.image] if columns.image else []), *(each.name for each in columns.features), *tasks.values()]
    check_columns(key, names, frame.columns)
    cells = pl.DataFrame([tidy(frame[name], False, ()) for name in names])
    return _rows(Path(key), cells, pl.repeat(False, len(frame), eager=True), tasks, contract)


def _check_table_is_taken(contract: Contract, key: str, found: object) -> None:
    if contract.columns.image is None and not contract.columns.features:
        rule = f"must be images or arrays of the shape {contract.input_shape}, as in training, and no table"
        raise DataError(key, rule, found)


def _rows(path: Path, frame: pl.DataFrame, blank: pl.Series, tasks: Mapping[str, str], contract: Contract) -> Split:
    """The rows of a frame that are no blank lines."""
    columns = contract.columns
    lines = torch.tensor((~blank).arg_true().to_numpy()).long()
    found = {task: labels_of(path.name, frame[name], contract.targets[task]) for task, name in tasks.items()}
    labels = {task: each.values[lines] for task, each in found.items()}
    labelled = {task: each.labelled[lines] for task, each in found.items()}
    features = _features(path.name, frame, columns.features)[lines] if columns.features else None
    if columns.image is None:
        assert features is not None
        return FeatureRows(path.name, lines, features, labels, labelled, None)
    paths = image_paths(path.name, frame[columns.image], blank)[lines.numpy()].tolist()
    mode = columns.mode or "RGB"
    return ImageRows(path, lines, paths, mode, features, labels, labelled, None)  # type: ignore[arg-type]  # a mode


def _features(table: str, frame: pl.DataFrame, known: tuple[Feature, ...]) -> torch.Tensor:
    """The features [N, F] of a frame; cells that are unknown to the network are told of."""
    features, unknown = features_of(table, frame, known)
    tell_unknown(table, unknown)
    return features
