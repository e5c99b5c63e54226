"""The options of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lightning.pytorch.cli import LightningArgumentParser


@dataclass
class Dimension:
    """What a key may be: a number from `low` to `high`, or one of `choices`.

    Args:
        low: Smallest number.
        high: Largest number.
        log: Draw its logarithm evenly, as for a learning rate.
        step: Distance of neighbouring numbers; null for all of them, or 1 with `integer`.
        integer: Whole numbers only.
        choices: Any values that the key takes, blocks of class_path and init_args included.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    integer: bool = False
    choices: list[Any] | None = None


@dataclass
class CrossValidation:
    """How the rows for training and validation are divided, in place of `data.folds`; the test split is left alone.

    Args:
        k: Number of folds, each of which is for validation once.
        stratify: A task with classes, of which each fold gets its share.
        seed: Seed of the division.
    """

    k: int = 5
    stratify: str | None = None
    seed: int = 0


@dataclass
class SearchConfig:
    """Which hyper-parameters to try, and for how long.

    Args:
        space: Key of the configuration, as on the command line → {low, high, log, step, integer} or {choices}.
        folds: The cross-validation that a trial is judged by: the mean over its folds of the best `monitor`.
        trials: How many trials, over all processes that share the study; a finite space may have fewer.
        pruner: End a trial after a fold in which its mean is worse than the median of the others'; null for never.
        timeout: Begin no trial after so many seconds of this process; null for no limit.
        seed: Seed of what is tried.
        stale_after: Seconds without a sign of life after which another process's trial is run again.
    """

    space: dict[str, Dimension] = field(default_factory=dict)
    folds: CrossValidation = field(default_factory=CrossValidation)
    trials: int = 50
    pruner: Literal["median"] | None = "median"
    timeout: float | None = None
    seed: int = 0
    stale_after: int = 120


def add_search_options(parser: LightningArgumentParser) -> None:
    """Add `search` to the options, whose folds divide the data."""
    parser.add_class_arguments(SearchConfig, "search")
    parser.link_arguments("search.folds", "data.folds", compute_fn=first_fold)


def first_fold(folds: Any) -> dict[str, Any]:
    """`data.folds` of the first fold, which shows whether the data can be divided so."""
    return {**vars(folds), "fold": 0}
