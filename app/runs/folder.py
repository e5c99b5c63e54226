"""Folders of runs, `runs/<name>/version_<k>/`."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import TextIO

from app.ranks.launch import told_by_first_rank
from app.runs.log import LOG
from models.errors import ConfigurationError

RUNS = Path("runs")
LOCK = ".lock"
ATTEMPTS = 1000  # to claim a folder
FILES = ("config.yaml", "results.json", "predictions.csv", LOG, LOCK, "checkpoints/best.ckpt", "checkpoints/last.ckpt")
LONGEST = 255  # bytes of a file's name
CLAIMED = "POLYHEAD_RUN"  # how processes that Lightning starts learn of the folder


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to, if it is in one."""
    if checkpoint.parent.name == "checkpoints" and checkpoint.parents[1].name.startswith("version_"):
        return checkpoint.parents[1]
    return None


def check_name(name: str) -> None:
    """Refuse a name of runs that leads elsewhere, or nowhere.

    Raises:
        ValueError: It is empty, absolute, has a `..`, characters that cannot be printed or blanks around it, or is
            longer than a file's name may be.
    """
    parts = Path(name).parts
    if not parts or any(len(part.encode()) > LONGEST for part in parts):
        raise ConfigurationError("name", f"each part must have 1 to {LONGEST} bytes", repr(name))
    if Path(name).is_absolute() or ".." in parts:
        raise ConfigurationError("name", f"must stay within {RUNS}/", repr(name))
    if not name.isprintable() or any(part != part.strip() for part in parts):
        raise ConfigurationError("name", "must be of characters that can be seen, without blanks around it", repr(name))


def claim_folder(name: str) -> Path:
    """The folder of a new run called `name`, which no other run gets.

    The first rank creates it; the others are told of it, by the environment if Lightning started them, else over the
    network. So it is called by every rank.
    """
    if CLAIMED not in os.environ:
        os.environ[CLAIMED] = told_by_first_rank(lambda: str(_created(RUNS / name)))
    return Path(os.environ[CLAIMED])


def forget_claim() -> None:
    """Let the next run of this process have another folder."""
    os.environ.pop(CLAIMED, None)


def check_places(folder: Path) -> None:
    """Refuse a run's folder in which something else stands where the run's files go.

    Raises:
        ValueError: A folder is in a file's place, or a file in a folder's.
    """
    for file in FILES:
        if (folder / file).is_dir():
            raise ConfigurationError(str(folder / file), "must be a file", "a folder")
    if (folder / "checkpoints").is_file():
        raise ConfigurationError(str(folder / "checkpoints"), "must be a folder", "a file")


def lock_folder(folder: Path) -> TextIO:
    """Keep other processes from training a run, until the file that is given is closed or this process ends, however.

    The lock is of this process alone: workers that outlive it for a moment do not hold it.

    Raises:
        ValueError: Another process trains the run.
    """
    file = (folder / LOCK).open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX allows either
        file.close()
        raise ConfigurationError(
            "ckpt_path", "a run must be trained by one process at a time", f"{folder} under way in another"
        ) from error
    return file


def release_folder(folder: Path) -> None:
    """Remove the folder of a run that was refused before it began, and those around it that are empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.parents[:-1]:
        try:
            parent.rmdir()
        except OSError:  # it is not empty, or another process was faster
            return


def _created(runs: Path) -> Path:
    """The next folder that is not there, created; where another process is faster, the one after it."""
    for _ in range(ATTEMPTS):
        try:
            folder = runs / f"version_{_next_version(runs)}"
            folder.mkdir(parents=True)
        except (FileExistsError, FileNotFoundError) as error:
            at = Path(error.filename)
            if at.is_symlink() and not at.exists():
                raise  # a link to nowhere; else a folder was claimed, or one around it released, meanwhile
        else:
            return folder
    raise ConfigurationError(str(RUNS), "must be where folders can be made", f"that {runs} cannot")


def _next_version(runs: Path) -> int:
    versions = [path.name.removeprefix("version_") for path in runs.glob("version_*")]
    return max((int(version) for version in versions if version.isdigit()), default=-1) + 1
