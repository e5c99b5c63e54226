"""Descriptions z_t of tasks."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Literal

import torch
import yaml

from models.backbones import wants_pretrained_weights
from models.bounds import check_sizes
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.own import Numbers

Descriptor = Literal["one_hot", "learned"] | dict[str, list[float]] | str
KEY = "model.sharing.descriptor"
RULE = "must be one_hot, learned, task → numbers, or a YAML or JSON file of these"


def described(descriptor: Descriptor, tasks: list[str], width: int) -> ModulesByName[Numbers] | None:
    """Task → its description, of those that are not one-hot.

    Args:
        descriptor: `one_hot`, `learned`, task → given numbers, or a file of these.
        tasks: names of the tasks.
        width: how many numbers are learned, or are in a file.

    Raises:
        ValueError: there is no such file, or a description is missing, unknown, of another width or no numbers.
    """
    if descriptor == "one_hot":
        return None
    if descriptor == "learned":
        check_sizes("model.sharing.width", [width])
        return ModulesByName[Numbers]({task: Numbers(torch.randn(width)) for task in tasks})
    given = _read(descriptor, tasks, width) if isinstance(descriptor, str) else descriptor
    if given.keys() != {*tasks}:
        raise ConfigurationError(KEY, f"must be of the tasks {tasks}", sorted(map(str, given)))
    for task, numbers in given.items():
        if not isinstance(numbers, list) or not all(type(each) in (int, float) and isfinite(each) for each in numbers):
            raise ConfigurationError(f"{KEY}.{task}", "must be a list of finite numbers", numbers)
    widths = {task: len(numbers) for task, numbers in given.items()}
    if len({*widths.values()}) > 1 or 0 in widths.values():
        raise ConfigurationError(KEY, "must have as many numbers for each task", widths)
    if isinstance(descriptor, str) and width not in widths.values():
        rule = f"must be that of the numbers in {descriptor!r}, {widths[tasks[0]]}"
        raise ConfigurationError("model.sharing.width", rule, width)
    return ModulesByName[Numbers](
        {task: Numbers(torch.tensor(given[task], dtype=torch.float32), learned=False) for task in tasks}
    )


def _read(path: str, tasks: list[str], width: int) -> Mapping[str, list[float]]:
    """The content of a file, of which JSON is YAML too; zeros where a trained network's file is gone."""
    if not wants_pretrained_weights() and not Path(path).is_file():
        return {task: [0.0] * width for task in tasks}  # until its weights are loaded, which have them
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(KEY, RULE, f"{path!r} ({type(error).__name__})") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(KEY, RULE, f"{path!r}, which is no YAML") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(KEY, RULE, f"{path!r}, which has a {type(content).__name__}")
    return content
