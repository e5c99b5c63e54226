"""Finds, reads and checks the checkpoints of runs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.runs.folder import RUNS
from app.runs.identity import NAME as IDENTITY
from models.errors import ConfigurationError
from models.whole_file import fault_of

FORMAT = 1  # of what a checkpoint holds, and under which names
PARTS: dict[str, type] = {  # what is read of a checkpoint before Lightning reads it
    "state_dict": dict, "epoch": int, "global_step": int, "pytorch-lightning_version": str, "callbacks": dict,
    "loops": dict, "optimizer_states": list, "lr_schedulers": list, IDENTITY: dict
}  # fmt: skip


def stamp(checkpoint: dict[str, Any]) -> None:
    """Write the number of the format into a checkpoint."""
    checkpoint["format"] = FORMAT


def find_checkpoint(which: str, name: str) -> Path:
    """The newest `best` or `last` checkpoint of the runs called `name`, or the file that `which` names.

    Raises:
        ValueError: There is none.
    """
    if which not in ("best", "last"):
        if not Path(which).is_file():
            raise ConfigurationError("ckpt_path", "must be 'best', 'last' or a file", f"{which!r}, and no such file")
        return Path(which)
    pattern = f"version_*/checkpoints/{which}.ckpt"
    found = sorted((RUNS / name).glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigurationError("ckpt_path", f"{which!r} wants a file {RUNS / name / pattern}", "none")
    return found[-1]


def read_checkpoint(path: Path, key: str = "ckpt_path") -> dict[str, Any]:
    """A checkpoint's content, its tensors not yet read from the disk.

    Args:
        path: Of the file.
        key: What the configuration calls it.

    Raises:
        ValueError: It is no checkpoint, of another format, or holds other than tensors and plain values; none of its
            code has run.
    """
    if not path.is_file():
        raise ConfigurationError(key, "must be a file", f"{path}, and no such file")
    if fault := fault_of(path):
        raise ConfigurationError(key, "must be a whole checkpoint", f"{path}, but {fault}")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            key,
            f"a checkpoint must hold tensors and plain values alone; {path} holds pickled code, which was not run",
        ) from error
    except Exception as error:  # of a broken file, unpickling raises whatever its bytes lead to
        raise ConfigurationError(key, f"must be a checkpoint, but {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ConfigurationError(key, "must be a checkpoint with a 'state_dict'", f"none in {path}")
    if content.get("format") != FORMAT:
        raise ConfigurationError(key, f"must be a checkpoint of format {FORMAT}", f"{content.get('format')} in {path}")
    _check_parts(content, f"{key}: {path}")
    return content


def _check_parts(content: dict[str, Any], where: str) -> None:
    """Refuse a checkpoint whose parts are of other kinds than those that are written."""
    for part, kind in PARTS.items():
        if not isinstance(content.get(part, kind()), kind):
            raise ConfigurationError(where, f"{part!r} must be {kind.__name__}", type(content[part]).__name__)
    for name, x in content["state_dict"].items():
        if not isinstance(name, str) or not isinstance(x, Tensor) or x.layout != torch.strided or x.is_meta:
            raise ConfigurationError(where, "'state_dict' must be of named tensors", f"{name!r}, {type(x).__name__}")
    for part in content.get(IDENTITY, {}).items():
        if not all(isinstance(each, str) for each in part):
            raise ConfigurationError(where, f"{IDENTITY!r} must be of text", part)


def check_weights(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], leaving: tuple[str, ...], path: Path
) -> None:
    """Compare the weights of a checkpoint with the network's, except those whose names begin with one of `leaving`.

    Raises:
        ValueError: Names or shapes differ.
    """
    weights, expected = (
        {name: x for name, x in each.items() if not name.startswith(leaving)} for each in (weights, expected)
    )
    wrong = [f"{name} missing" for name in expected.keys() - weights.keys()]
    wrong += [f"{name} not in the network" for name in weights.keys() - expected.keys()]
    wrong += [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if wrong:
        first = ", ".join(sorted(wrong)[:5]) + (", …" if len(wrong) > 5 else "")
        raise ConfigurationError(
            "ckpt_path", "weights must fit the configured network", f"{len(wrong)} of {path} that do not: {first}"
        )
