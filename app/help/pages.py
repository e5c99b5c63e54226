"""Which page is asked for, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
MAIN = "train"  # the page of train.py without a command
ASKING = {"-h", "--help"}


def file_of(page: str) -> Path:
    """The file of a page; `python -m app.cli.help_pages` writes it."""
    return FOLDER / f"{page}.txt"


def show(arguments: Sequence[str]) -> None:
    """Print the page that a command line asks for, and end the program; do nothing where it asks for none.

    Args:
        arguments: Of train.py; without any the main page is printed.
    """
    first = arguments[0] if arguments else "--help"
    commands = {path.stem for path in FOLDER.glob("*.txt")} - {MAIN}
    if first in ASKING:
        _print(MAIN)
    elif first in commands and ASKING & {*arguments}:
        _print(first)


def _print(page: str) -> None:
    print(file_of(page).read_text(encoding="utf-8"), end="")
    raise SystemExit(0)
