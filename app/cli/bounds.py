"""Bounds of numbers that a configuration has, where the library that takes them does not say them in one line."""

from __future__ import annotations

from dataclasses import dataclass
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
    "model.reset_layers": AtLeast(0),
}


def check_bounds(options: Namespace) -> None:
    """Refuse numbers that are out of their bounds.

    Raises:
        ValueError: One is.
    """
    for key, bound in BOUNDS.items():
        number: Any = options.get(key)
        if isinstance(number, int | float) and not bound.holds(number):
            raise ConfigurationError(key, str(bound), number)
