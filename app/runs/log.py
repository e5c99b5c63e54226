"""What a run says: on the terminal, and in its `log.txt`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm  # type: ignore[import-untyped]

LOG = "log.txt"
LINE = "%(asctime)s %(message)s"
_ours = logging.getLogger("polyhead")
_ours.setLevel(logging.INFO)
_ours.propagate = False  # `tell` prints
_HEARD = (_ours, logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric"))


class LogFile(logging.FileHandler):
    """A log that does without what cannot be written, as on a full disk: it has been printed."""

    def handleError(self, record: logging.LogRecord) -> None:  # the parent's name
        """Say nothing."""


class RunLog:
    """The log of one run: what `tell` and Lightning say, warnings, and how it failed, each line with its time."""

    def __init__(self) -> None:
        self._file: logging.Handler | None = None

    def begin(self, folder: Path) -> None:
        """Write to `log.txt` in the run's folder from here on, after what stands there."""
        self._file = LogFile(folder / LOG, encoding="utf-8", delay=True)
        self._file.setFormatter(logging.Formatter(LINE, datefmt="%Y-%m-%d %H:%M:%S"))
        for each in _HEARD:
            each.addHandler(self._file)

    def end(self) -> None:
        """Close the file."""
        if self._file is not None:
            for each in _HEARD:
                each.removeHandler(self._file)
            with suppress(OSError):  # as on a full disk, of which whoever writes what counts tells
                self._file.close()


@contextmanager
def run_log() -> Iterator[RunLog]:
    """A log, which is to be begun; it has the warnings of what is done within, and is ended after it.

    Warnings are a line each meanwhile, without the place in the program.
    """
    log, shown, form = RunLog(), warnings.showwarning, warnings.formatwarning

    def show(message: Warning | str, *of: Any, **options: Any) -> None:
        shown(message, *of, **options)
        note(f"warning: {message}")

    warnings.showwarning, warnings.formatwarning = show, lambda message, *of, **options: f"warning: {message}\n"
    try:
        yield log
    finally:
        warnings.showwarning, warnings.formatwarning = shown, form
        log.end()


@rank_zero_only
def tell(text: str) -> None:
    """Print text, above a progress bar if there is one, and note it."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
    note(text)


def note(text: str) -> None:
    """Write text to the log of the run that is under way, if there is one."""
    for line in text.splitlines():
        _ours.info(line.rstrip())
