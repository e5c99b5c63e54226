"""Finds, reads and checks the checkpoints of runs."""

from __future__ import annotations

import pickle
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.runs.folder import RUNS
from app.runs.identity import NAME as IDENTITY
from datamodules.contract import Contract
from datamodules.errors import DataError
from datamodules.targets import Target
from models.errors import ConfigurationError
from models.whole_file import fault_of

FORMAT = 2  # of what a checkpoint holds, and under which names
CONTRACT, CONFIGURATION, VERSIONS = "contract", "configuration", "versions"
PARTS: dict[str, type] = {  # what is read of a checkpoint before Lightning reads it
    "state_dict": dict, "epoch": int, "global_step": int, "pytorch-lightning_version": str, "callbacks": dict,
    "loops": dict, "optimizer_states": list, "lr_schedulers": list, IDENTITY: dict, CONTRACT: dict,
    CONFIGURATION: str, VERSIONS: dict
}  # fmt: skip
PACKAGES = ("torch", "torchvision", "timm", "lightning", "torchmetrics")


def stamp(checkpoint: dict[str, Any], contract: Contract) -> None:
    """Write into a checkpoint what the network takes and gives, by which versions it was made, and its format's number.

    Raises:
        ValueError: A target cannot be told by plain values.
    """
    checkpoint["format"], checkpoint[CONTRACT] = FORMAT, contract.plain()
    checkpoint[VERSIONS] = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def contract_of(content: Mapping[str, Any], path: Path, key: str = "ckpt_path") -> Contract:
    """What the network of a checkpoint takes and gives.

    Raises:
        ValueError: It is not told, or in another way.
    """
    where = f"{key}: {path}"
    if CONTRACT not in content:
        raise ConfigurationError(where, f"must have the part {CONTRACT!r}, which every use of a network needs", "none")
    try:
        return Contract.of(content[CONTRACT])
    except DataError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ConfigurationError(where, f"{CONTRACT!r} must be as it was written", found) from error


def relabelled(content: Mapping[str, Any], path: Path, key: str, targets: Mapping[str, Target]) -> set[str]:
    """The tasks of which a checkpoint's labels are of other classes or units than those of `targets`, by name."""
    theirs = contract_of(content, path, key).targets
    return {task for task, target in targets.items() if task in theirs and not theirs[task].same_labels(target)}


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


def checkpoint_of_run(path: Path, which: str | None = None) -> Path:
    """The checkpoint of a run to use.

    Args:
        path: The run's folder, `runs/<name>/version_<k>`, or `runs/<name>`, of which the newest run counts, or a
            checkpoint.
        which: "best" or "last"; None for the best, or the last where nothing was validated.

    Raises:
        ValueError: There is none.
    """
    if which not in (None, "best", "last"):
        raise ConfigurationError("ckpt_path", "beside `run` must be 'best' or 'last'", repr(which))
    if path.is_file():
        return path
    names = [f"{name}.ckpt" for name in ((which,) if which else ("best", "last"))]
    folders = [path, *sorted(path.glob("version_*"), key=lambda folder: folder.stat().st_mtime, reverse=True)]
    found = [file for folder in folders for name in names if (file := folder / "checkpoints" / name).is_file()]
    if not found:
        what = "no such folder" if not path.exists() else f"no {' or '.join(names)} in {path}"
        raise ConfigurationError("run", "must be a run's folder with a checkpoint, or a checkpoint", what)
    return found[0]


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
        rule = f"must be a checkpoint of format {FORMAT}, which has all that a use of the network needs"
        raise ConfigurationError(key, rule, f"format {content.get('format')} in {path}; train anew")
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
