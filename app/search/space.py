"""From the space in YAML to Optuna's distributions, and back from its suggestions to values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from app.search.config import Dimension
from models.errors import ConfigurationError

Space = Mapping[str, Dimension]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Key → its distribution.

    Raises:
        ValueError: There is no key, or a range or a choice cannot be drawn from.
    """
    if not space:
        raise ConfigurationError("search.space", "must name a key to search", "{}")
    return {key: _distribution(f"search.space.{key}", dimension) for key, dimension in space.items()}


def _distribution(where: str, of: Dimension) -> BaseDistribution:
    if of.choices is not None:
        labels = [text(choice) for choice in of.choices]
        if of.low is not None or of.high is not None:
            raise ConfigurationError(where, "must be a range or choices", "both")
        if not labels or len(set(labels)) < len(labels):
            raise ConfigurationError(f"{where}.choices", "must be different values", of.choices)
        return CategoricalDistribution(labels)
    if of.low is None or of.high is None:
        raise ConfigurationError(where, "must have low and high, or choices", f"low {of.low} and high {of.high}")
    if of.low >= of.high:
        raise ConfigurationError(where, "low must be less than high", f"{of.low:g} and {of.high:g}")
    if of.log and of.low <= 0:
        raise ConfigurationError(where, "with log, low must be greater than 0", f"{of.low:g}")
    if of.log and of.step is not None:
        raise ConfigurationError(where, "must have log or a step", "both")
    if of.step is not None and not 0 < of.step <= of.high - of.low:
        raise ConfigurationError(f"{where}.step", "must be greater than 0 and fit between low and high", f"{of.step:g}")
    if not of.integer:
        return FloatDistribution(of.low, of.high, log=of.log, step=of.step)
    for key in ("low", "high", "step"):
        if (number := getattr(of, key)) is not None and number != int(number):
            raise ConfigurationError(f"{where}.{key}", "must be an integer", f"{number:g}")
    return IntDistribution(int(of.low), int(of.high), log=of.log, step=int(of.step or 1))


def points(drawn_from: Mapping[str, BaseDistribution]) -> float:
    """How many different trials there can be; infinity where a number has no steps."""
    return prod(_points(each) for each in drawn_from.values())


def _points(of: BaseDistribution) -> float:
    if isinstance(of, CategoricalDistribution):
        return len(of.choices)
    assert isinstance(of, IntDistribution | FloatDistribution)
    return inf if of.step is None else round((of.high - of.low) / of.step) + 1  # Optuna cuts high to whole steps


def extremes(of: Dimension) -> list[Any]:
    """The choices, or the two ends of the range."""
    if of.choices is not None:
        return of.choices
    ends = [number for number in (of.low, of.high) if number is not None]
    return [int(number) for number in ends] if of.integer else list(ends)


def values(space: Space, suggested: Mapping[str, Any]) -> dict[str, Any]:
    """Key → the value that a suggestion stands for."""
    return {key: _value(dimension, suggested[key]) for key, dimension in space.items()}


def _value(of: Dimension, suggestion: Any) -> Any:
    if of.choices is None:
        return suggestion
    return next(choice for choice in of.choices if text(choice) == suggestion)


def text(value: Any) -> str:
    """A value as it stands on the command line, which is also its name in the study."""
    return value if isinstance(value, str) else json.dumps(value)


def short(value: Any) -> str:
    """A value for people to read: of a block of class_path and init_args `Class(name=value)`."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "class_path" in value:
        options = ", ".join(f"{name}={short(each)}" for name, each in value.get("init_args", {}).items())
        return str(value["class_path"]).rsplit(".", 1)[-1] + (f"({options})" if options else "")
    return text(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key → its last part, or more of it where that is another's too."""
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        names[key] = next(
            end for end in ends if sum(f".{each}".endswith(f".{end}") for each in keys) == 1 or end == key
        )
    return names
