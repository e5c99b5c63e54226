"""The body of a request as rows that a network takes."""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Any

import polars as pl
import torch
from PIL import Image

from datamodules.contract import Contract
from datamodules.errors import DataError
from datamodules.new_rows import split_of
from datamodules.new_rows.features import features_of
from datamodules.new_rows.pictures import Pictures
from datamodules.sources import Split, TensorSplit

BODY, JSON = "the request", "application/json"
MOST_PIXELS = 50_000_000
Row = dict[str, Any]


def rows_of(body: bytes, kind: str, contract: Contract) -> Split:
    """The rows of a request.

    Args:
        body: An image, or JSON: an object by column, or a list of them. An image in JSON is base64 under the name of
            its column; an array is a list, under `input` or its modality.
        kind: Its Content-Type.
        contract: What the network takes.

    Raises:
        ValueError: It is something else.
    """
    if kind.startswith("image/") or kind == "application/octet-stream":
        return split_of([_image(body)], contract, BODY)
    if kind != JSON:
        raise DataError(BODY, f"must have the Content-Type image/… or {JSON}", repr(kind))
    content = _parsed(body)
    rows = content if isinstance(content, list) else [content]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(BODY, "must be an object by column, or a list of them", type(content).__name__)
    return _rows(rows, contract)


def is_list(body: bytes) -> bool:
    """Whether several rows are asked for, and several answers wanted."""
    return body.lstrip()[:1] == b"["


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(BODY, "must be valid JSON", str(error)[:100]) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name}, which JSON does not have")


def _rows(rows: list[Row], contract: Contract) -> Split:
    columns = contract.columns
    names = [*([columns.image] if columns.image else []), *(feature.name for feature in columns.features)]
    arrays = not names
    shape: Any = contract.input_shape
    wanted = names or (list(shape) if isinstance(shape, dict) else ["input"])
    for number, row in enumerate(rows):
        if unknown := sorted(set(row) - set(wanted)):
            raise DataError(f"row {number} of {BODY}", f"must have the columns {wanted} alone", unknown)
        if missing := [name for name in wanted if name not in row]:
            raise DataError(f"row {number} of {BODY}", f"must have the columns {wanted}", f"none of {missing}")
    if arrays:
        shapes = shape if isinstance(shape, dict) else {"input": shape}
        found = {name: _arrays(name, [row[name] for row in rows], each) for name, each in shapes.items()}
        return TensorSplit(found if isinstance(shape, dict) else found["input"], {})
    features = _features(rows, contract) if columns.features else None
    if columns.image is None:
        assert features is not None
        return TensorSplit(features, {})
    images = [_image(_decoded(row[columns.image], number)) for number, row in enumerate(rows)]
    return Pictures(images, columns.mode or "RGB", features)


def _features(rows: list[Row], contract: Contract) -> torch.Tensor:
    """The features [N, F]."""
    columns = {}
    for feature in contract.columns.features:
        cells = [row[feature.name] for row in rows]
        for number, cell in enumerate(cells):
            if not isinstance(cell, str | int | float | None):
                where = f"row {number} of {BODY}, column {feature.name!r}"
                raise DataError(where, "must be a number, a text or null", type(cell).__name__)
        columns[feature.name] = pl.Series(feature.name, [_cell(cell) for cell in cells], pl.String)
    features, _ = features_of(BODY, pl.DataFrame(list(columns.values())), contract.columns.features)
    return features


def _cell(value: str | float | None) -> str | None:
    """As a table has it."""
    if isinstance(value, bool):
        return str(value).lower()
    text = None if value is None else str(value).strip()
    return text or None


def _arrays(name: str, values: list[Any], shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers [N, ...], each row of the shape."""
    arrays = []
    for number, value in enumerate(values):
        where = f"row {number} of {BODY}, {name!r}"
        try:
            x = torch.tensor(value, dtype=torch.get_default_dtype())
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise DataError(where, f"must be lists of numbers, of the shape {shape}") from error
        if tuple(x.shape) != tuple(shape) or not x.isfinite().all():
            raise DataError(where, f"must be finite numbers of the shape {shape}", tuple(x.shape))
        arrays.append(x)
    return torch.stack(arrays)


def _decoded(value: Any, number: int) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise DataError(
            f"row {number} of {BODY}", "an image must be base64 of its file", type(value).__name__
        ) from error


def _image(content: bytes) -> Image.Image:
    """An image, decoded; what PIL says of a broken one is of objects in memory, and of no use to who sent it."""
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MOST_PIXELS:
            raise DataError(BODY, f"an image must have at most {MOST_PIXELS} pixels", f"{image.width} × {image.height}")
        image.load()
    except DataError:
        raise
    except Exception as error:  # of a broken file, PIL's decoders raise whatever its bytes lead to
        raise DataError(BODY, "must be a whole image", f"{len(content)} bytes that are none") from error
    return image
