"""Bounds of numbers that a configuration has, where the library that takes them does not say them in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from jsonargparse import Namespace

from models.errors import ConfigurationError


@dataclass(frozen=True)
class AtLeast:
    """A number that must not be less than another one, or not even equal to it."""

    least: float
    excluded: bool = False

    def __str__(self) -> str:
        """The rule."""
        return f"must be {'greater than' if self.excluded else 'at least'} {self.least:g}"

    def holds(self, number: float) -> bool:
        """Whether a number keeps to it."""
        return number > self.least if self.excluded else number >= self.least


BOUNDS = {
    "patience": AtLeast(1),
    "nan_patience": AtLeast(1),
    "save_every_n_steps": AtLeast(1),
    "trainer.accumulate_grad_batches": AtLeast(1),
    "trainer.val_check_interval": AtLeast(0, excluded=True),
    "trainer.check_val_every_n_epoch": AtLeast(1),
    "trainer.gradient_clip_val": AtLeast(0),
    "trainer.log_every_n_steps": AtLeast(0),
    "trainer.num_sanity_val_steps": AtLeast(-1),
    "model.lr_scheduler.init_args.step_size": AtLeast(1),
    "model.lr_scheduler.init_args.final_factor": AtLeast(0),
    "model.reset_layers": AtLeast(0),
    "trainer.min_epochs": AtLeast(0),
    "trainer.min_steps": AtLeast(0),
    "data.folds.init_args.seed": AtLeast(0),
    "data.sources.*.init_args.seed": AtLeast(0),
}


def check_bounds(options: Namespace) -> None:
    """Refuse numbers that are out of their bounds.

    Raises:
        ValueError: One is.
    """
    numbers = {key: each for key, each in flat("", options) if isinstance(each, int | float)}
    for pattern, bound in BOUNDS.items():
        for key in filter(lambda key: fnmatchcase(key, pattern), numbers):
            if not bound.holds(numbers[key]):
                raise ConfigurationError(key, str(bound), numbers[key])


def flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The keys under one, and their values."""
    if not isinstance(value, Namespace | dict):
        yield key, value
        return
    for name, each in (vars(value) if isinstance(value, Namespace) else value).items():
        yield from flat(f"{key}.{name}" if key else str(name), each)
