"""The subcommands, a module each: its name, and the `Command` that it has as `COMMAND`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from app.cli.command import Command


def commands() -> dict[str, Command]:
    """Name → subcommand, of every module in this folder."""
    return {found.name: import_module(f"{__name__}.{found.name}").COMMAND for found in iter_modules(__path__)}
