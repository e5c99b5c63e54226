"""The subcommand `search`."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna
from jsonargparse import Namespace
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from rich.console import Console
from sqlalchemy.exc import DatabaseError

from app.measuring.monitoring import direction
from app.runs import RUNS, tell
from app.search.config import SearchConfig
from app.search.report import line, report
from app.search.space import distributions, text
from app.search.study import SharedStudy
from app.search.trial import STOPPED, FoldsObjective
from app.search.trial_configuration import ConfigurationParser, TrialConfiguration
from app.training.module import MultiTaskModule
from models.errors import ConfigurationError


def run_search(options: Namespace, model: MultiTaskModule, search: SearchConfig, fit: ConfigurationParser) -> None:
    """Run trials, then print and draw what came of them, and write the best one's configuration.

    Ctrl-C or SIGTERM ends it with exit code 130, the trial under way back in the queue.

    Args:
        options: Of the command line.
        model: The network, whose metric says whether more of `monitor` is better, unless `monitor_mode` does.
        search: Its options.
        fit: The parser of `fit`.

    Raises:
        ValueError: A setting is wrong, the study was begun with others, or no trial has ended well.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of heartbeats, retries and plots
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base, drawn_from = TrialConfiguration(fit, options), distributions(search.space)
    base.check(search.space)
    _check(options, search)
    directions = model.stages["val"].higher_is_better()
    higher_is_better = direction(options.monitor, options.monitor_mode, directions)
    folds = {f"search.folds.{key}": text(value) for key, value in asdict(search.folds).items()}
    folder, identity = RUNS / options.name, {**folds, **base.identity()}
    with _database(folder / "search.db"):
        shared = SharedStudy(folder, search, drawn_from, higher_is_better, identity)
        _run(shared, options, search, base)


def _run(shared: SharedStudy, options: Namespace, search: SearchConfig, base: TrialConfiguration) -> None:
    """Run the trials, and report on them."""
    console = Console()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, which puts the trial back
    try:
        shared.run(
            FoldsObjective(base, search, options.name),
            lambda trial: tell(f"[{shared.progress()}] {line(trial, search.space)}"),
        )
    except KeyboardInterrupt as error:
        raise SystemExit(STOPPED) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    with shared.lock:
        report(shared.study, search.space, base, options.monitor, RUNS / options.name / "search", console)


@contextmanager
def _database(path: Path) -> Iterator[None]:
    """Refuse what is no database, or one that cannot be written, as on a full disk."""
    try:
        yield
    except (DatabaseError, StorageInternalError) as error:
        raised = error if isinstance(error, DatabaseError) else error.__cause__  # Optuna wraps what a commit raises
        found = str(raised).partition("\n")[0]
        raise ConfigurationError(str(path), "must be a database that can be written", found) from error


def _check(options: Namespace, search: SearchConfig) -> None:
    """Refuse settings under which no trial has a figure."""
    if search.trials < 1:
        raise ConfigurationError("search.trials", "must be at least 1", search.trials)
    if search.stale_after < 1:
        raise ConfigurationError("search.stale_after", "must be at least 1 second", search.stale_after)
    if options.trainer.limit_val_batches == 0:
        raise ConfigurationError("trainer.limit_val_batches", "must be greater than 0 for a search", "0")
    if options.trainer.fast_dev_run or options.trainer.enable_checkpointing is False:
        raise ConfigurationError("trainer", "must neither be fast_dev_run nor disable checkpointing, for a search")
