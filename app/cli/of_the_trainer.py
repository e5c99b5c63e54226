"""What Lightning's trainer is given, and what it takes from the program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from app.runs import WholeCheckpointIO


def listed(given: Any) -> list[Any]:
    """What the trainer takes as one or as a list of them."""
    return list(given) if isinstance(given, list | tuple) else [] if given is None else [given]


def plugins_of(given: Any) -> list[Any]:
    """The plugins of the trainer, whose checkpoints are written whole unless one of the user's writes them."""
    plugins = listed(given)
    own = any(isinstance(each, CheckpointIO) for each in plugins)
    return plugins if own else [*plugins, WholeCheckpointIO()]


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Leave the handlers of signals as they were: Lightning does not where a logger cannot close its files."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
