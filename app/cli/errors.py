"""Whose fault an error is: one line for the user's, a traceback for ours."""

from __future__ import annotations

import errno
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException

from app.callbacks import NotFiniteError
from datamodules.errors import DataError
from models.errors import ConfigurationError

REFUSALS = (ConfigurationError, DataError, MisconfigurationException, NotFiniteError)
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / name) for name in ("app", "datamodules", "models", "train.py"))
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
LIGHTNING = str(Path(lightning.__file__).parent)
OF_THE_SYSTEM = {  # what a path meets, but that nothing is there; what a full disk says
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR,
    errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
}  # fmt: skip
LOG, REFUSED = "error.log", 2  # a file, and an exit code


class RaisedIn(BaseException):
    """What a class or function that the configuration names has raised while it was called.

    No Exception: after one, the parser tries the next type that the key may have, and words the error itself.
    """

    def __init__(self, named: Any, error: Exception) -> None:
        super().__init__(named, error)
        self.named, self.error = named, error


def construct(named: Any, *arguments: Any, **options: Any) -> Any:
    """Call a class or function that the configuration names.

    Raises:
        RaisedIn: It has raised something, or returns nothing.
    """
    try:
        made = named(*arguments, **options)
    except Exception as error:
        raise RaisedIn(named, error) from error
    if made is None:
        raise RaisedIn(named, TypeError("it returns nothing"))
    return made


@dataclass
class Reporter:
    """Ends the program at an error: with one line and exit code 2 where it is the user's, else with its traceback.

    The user's are what our own code refuses, what Lightning does, what the system does with a file or on a full disk,
    and whatever is raised by code that the configuration names: that of a library's class while it is built, and that
    of a file of the user's own.

    Attributes:
        folder: Of the run, where the whole traceback of the user's code is written.
        keys: Class or function → the key of the configuration that names it.
    """

    folder: Path | None = None
    keys: dict[Any, str] = field(default_factory=dict)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report what is raised within."""
        try:
            with _quiet_writers():
                yield
        except RaisedIn as raised:
            self._report(raised.error, raised.named)
        except SystemExit as ending:
            if place := blamed(ending):
                where = f"{place.name}, {place.filename}:{place.lineno}"
                refuse(f"{where}: must not end the program, found an exit with {ending.code}")
            raise
        except Exception as error:
            self._report(error, None)

    def _report(self, error: Exception, named: Any) -> NoReturn:
        if isinstance(error, REFUSALS):
            refuse(" ".join(str(error).split()))
        if isinstance(error, ValueError | TypeError) and is_of_lightning(error):
            refuse(" ".join(str(error).split()))
        of_ours = named is None or is_ours(named)
        if of_ours and _is_of_the_system(error):
            refuse(f"{self.folder if error.filename is None else error.filename}: {error.strerror}")
        place = blamed(error)
        if place is None and of_ours:
            raise error
        where = self._named(named) if place is None else f"{place.name}, {place.filename}:{place.lineno}"
        line = traceback.format_exception_only(error)[-1].strip()
        refuse(f"{where}: {line}{self._logged(error)}")

    def _named(self, named: Any) -> str:
        """A class or function, after the key that names it."""
        name = str(getattr(named, "__name__", named))
        return f"{self.keys[named]}: {name}" if named in self.keys else name

    def _logged(self, error: Exception) -> str:
        """Write the whole traceback, and say where it is."""
        if self.folder is None:
            return ""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LOG
        path.write_text("".join(traceback.format_exception(error)))
        return f" (all of it: {path})"


def _is_of_the_system(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether it is what the system does with a file or on a full disk."""
    return isinstance(error, OSError) and error.errno in OF_THE_SYSTEM


@contextmanager
def _quiet_writers() -> Iterator[None]:
    """Let a thread that cannot write say nothing: tensorboard's raises its error again where it is given more."""
    loud = threading.excepthook
    threading.excepthook = lambda raised: None if _is_of_the_system(raised.exc_value) else loud(raised)
    try:
        yield
    finally:
        threading.excepthook = loud


def refuse(line: str) -> NoReturn:
    """Say what is wrong in one last line, and exit with 2."""
    sys.stderr.write(f"error: {line}\n")
    raise SystemExit(REFUSED)


def blamed(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of an error's traceback that is no library's, if it is of a file of the user's own."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*LIBRARIES, "<")):
            return None if frame.filename.startswith(OURS) else frame
    return None


def is_of_lightning(error: Exception) -> bool:
    """Whether Lightning has raised an error itself, as it does for settings of its trainer that cannot be."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(LIGHTNING)


def is_ours(named: Any) -> bool:
    """Whether a class or function is of this program."""
    return str(getattr(named, "__module__", "")).split(".")[0] in ("app", "datamodules", "models")
