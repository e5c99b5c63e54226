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
from lightning.pytorch.trainer.connectors import checkpoint_connector

from app.callbacks import NotFiniteError, resumption
from app.runs import note
from datamodules.errors import DataError
from models.errors import ConfigurationError

REFUSALS = (ConfigurationError, DataError, MisconfigurationException, NotFiniteError)
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / name) for name in ("app", "datamodules", "models", "train.py"))
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
LIGHTNING = str(Path(lightning.__file__).parent)
RESTORING = {  # file that restores a checkpoint → how those of its functions begin that do
    checkpoint_connector.__file__: ("resume_start", "restore", "_restore"),
    resumption.__file__: ("on_load_checkpoint", "on_train_start"),
}
OF_THE_SYSTEM = {  # what a path meets, but that nothing is there; what a full disk says
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR,
    errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
}  # fmt: skip
TRACEBACK, REFUSED = "error.log", 2  # a file, and an exit code


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
    what a checkpoint's content leads to while it is restored, and whatever is raised by code that the configuration
    names: that of a library's class while it is built, and that of a file of the user's own.

    Attributes:
        checkpoint: That is read, if there is one.
        folder: Of the run, where the whole traceback of the user's code is written.
        keys: Class or function → the key of the configuration that names it.
    """

    checkpoint: Path | None = None
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
                refuse(f"{place}: must not end the program, found an exit with {ending.code}{self._logged(ending)}")
            raise
        except Exception as error:
            self._report(error, None)

    def _report(self, error: Exception, named: Any) -> NoReturn:
        if isinstance(error, REFUSALS):
            refuse(str(error))
        place = blamed(error)
        if place is None and self.checkpoint and is_of_restoring(error):
            rule = f"{self.checkpoint} must have what is restored, as it was saved"
            refuse(f"ckpt_path: {rule}, found {summary(error)}{self._logged(error)}")
        if isinstance(error, ValueError | TypeError) and is_of_lightning(error):
            refuse(str(error))
        of_ours = named is None or is_ours(named)
        if of_ours and _is_of_the_system(error):
            refuse(f"{self.folder if error.filename is None else error.filename}: {error.strerror}")
        if place is None and of_ours:
            raise error
        refuse(f"{place or self._named(named)}: {summary(error)}{self._logged(error)}")

    def _named(self, named: Any) -> str:
        """A class or function, after the key that names it."""
        name = str(getattr(named, "__name__", named))
        return f"{self.keys[named]}: {name}" if named in self.keys else name

    def _logged(self, error: BaseException) -> str:
        """Write the whole traceback, and say where it is."""
        if self.folder is None:
            return ""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / TRACEBACK
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
    text = f"error: {' '.join(line.split())}"
    note(text)
    sys.stderr.write(f"{text}\n")
    raise SystemExit(REFUSED)


def summary(error: Exception) -> str:
    """The kind of an error and what it says, without its notes."""
    return ": ".join(filter(None, (type(error).__name__, str(error))))


def blamed(error: BaseException) -> str | None:
    """The innermost line of an error's traceback that is no library's, if it is of a file of the user's own.

    It is told by its class and method, or function, and by its file and number.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        code = frame.f_code
        if not code.co_filename.startswith((*LIBRARIES, "<")):
            return None if code.co_filename.startswith(OURS) else f"{code.co_qualname}, {code.co_filename}:{line}"
    return None


def is_of_lightning(error: Exception) -> bool:
    """Whether Lightning has raised an error itself, as it does for settings of its trainer that cannot be."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(LIGHTNING)


def is_of_restoring(error: Exception) -> bool:
    """Whether an error was raised while a checkpoint was restored, in whatever is called for that."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(code.co_name.startswith(RESTORING.get(code.co_filename, ())) for code in codes)


def is_ours(named: Any) -> bool:
    """Whether a class or function is of this program."""
    return str(getattr(named, "__module__", "")).split(".")[0] in ("app", "datamodules", "models")
