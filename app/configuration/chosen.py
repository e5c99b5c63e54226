"""What of a configuration the user chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pydoc import locate
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from app.tasks import TaskConfig

Value = bool | int | float | str
PLACES = ("config", "name", "ckpt_path", "resume_anyway")  # they say where a run is, not what it is


def chosen(parser: ArgumentParser, options: Namespace) -> dict[str, Value]:
    """Key → value, of the seed and of all that is not as by default.

    A class is its name, with its options beneath it: `model.optimizer` AdamW, `model.optimizer.lr` 0.003.
    """
    defaults = parser.get_defaults(skip_validation=True).as_dict()
    asked = yaml.safe_load(parser.dump(options, skip_unset=False))
    differs = dict(_differing({key: value for key, value in asked.items() if key not in PLACES}, defaults))
    tasks = differs.get("model", {}).pop("tasks", None) or {}
    seed = {"seed_everything": options.seed_everything}
    own = {f"model.tasks.{task}.{key}": value for task, each in tasks.items() for key, value in _set(TaskConfig, each)}
    return dict(_flat(seed | differs, "")) | dict(_flat(own, ""))


def _differing(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What of nested mappings is not as by default; a class with its options is one value."""
    for key, value in given.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and "class_path" not in value:
            if inner := dict(_differing(value, default)):
                yield key, inner
        elif value != (list(default) if isinstance(default, tuple) else default):
            yield key, value


def _flat(value: Any, key: str) -> Iterator[tuple[str, Value]]:
    """Key → value of everything in nested mappings and lists."""
    if isinstance(value, Mapping) and "class_path" in value:
        yield key, value["class_path"].rpartition(".")[2]
        options: Any = value.get("init_args") or {}
        yield from _flat(dict(_set(locate(value["class_path"]), options)), key)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for number, each in enumerate(value):
            yield from _flat(each, f"{key}.{number}")
    else:
        yield key, value if isinstance(value, bool | int | float) else str(value)


def _set(named: Callable[..., Any] | Any, options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options of a class or function that are not as it has them by default."""
    defaults = {name: parameter.default for name, parameter in signature(named).parameters.items()}
    for name, value in options.items():
        default = defaults.get(name)
        if value != (list(default) if isinstance(default, tuple) else default):
            yield name, value
