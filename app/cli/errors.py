"""Whose fault an error is: one line for the user's, a traceback for ours."""

from __future__ import annotations

from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from datamodules.errors import DataError
from models.errors import ConfigurationError

REFUSALS = (ConfigurationError, DataError, MisconfigurationException)


class RaisedIn(BaseException):
    """What a class or function that the configuration names has raised.

    No Exception: after one, the parser tries the next type that the key may have, and words the error itself.
    """

    def __init__(self, named: Any, error: Exception) -> None:
        super().__init__(named, error)
        self.named, self.error = named, error


def construct(named: Any, *arguments: Any, **options: Any) -> Any:
    """Call a class or function that the configuration names.

    Raises:
        RaisedIn: It has raised something.
    """
    try:
        return named(*arguments, **options)
    except RaisedIn:
        raise
    except Exception as error:
        raise RaisedIn(named, error) from error
