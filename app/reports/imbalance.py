"""Warnings of classes that are rare, and of tasks that have learned to predict one alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from app.tasks.class_counts import ClassCounts
from datamodules.targets import Target

RARE = 0.1  # share of the labels; of many classes that exclude each other, half of an even share, if that is less
NAMED = 3  # classes of a line


def imbalance(targets: Mapping[str, Target], split: str, counts: Mapping[str, ClassCounts]) -> list[str]:
    """A line for each task with rare classes in training, and for each that predicts one class alone.

    Args:
        targets: Task → what its label is.
        split: Which was predicted last.
        counts: Task → how its classes were told apart there.
    """
    return [*rare_classes(targets), *lone_predictions(targets, split, counts)]


def rare_classes(targets: Mapping[str, Target]) -> Iterator[str]:
    """A line for each task that has classes with less than 10 % of the training labels, the rarest first.

    Of more than five classes, of which a row has one, half of an even share counts instead: of ten that are as frequent
    as can be, some have 9 %.
    """
    for task, target in targets.items():
        shares = target.class_shares
        limit = min(RARE, 0.5 / max(len(shares), 1)) if target.exclusive else RARE
        if rare := sorted((share, name) for name, share in shares.items() if share < limit):
            parts = [f"class {name!r} with {_percent(share)} of the labels" for share, name in rare]
            yield f"warning: task {task!r}: rare in training: {_listed(parts)}"


def lone_predictions(targets: Mapping[str, Target], split: str, counts: Mapping[str, ClassCounts]) -> Iterator[str]:
    """A line for each task whose predictions do not tell a class from the others, though the labels do."""
    for task, each in counts.items():
        names = targets[task].class_names or ()
        if targets[task].exclusive:
            said, there = (each.predicted > 0).nonzero().flatten().tolist(), int((each.support > 0).sum())
            if len(said) == 1 and there > 1:
                share = _percent(int(each.support[said[0]]) / each.rows)
                what = f"class {names[said[0]]!r} alone is predicted, which has {share} of the labels"
                yield f"warning: task {task!r}: in split {split!r}, {what}"
        elif parts := list(_stuck(names, each)):
            yield f"warning: task {task!r}: in split {split!r}, {_listed(parts)}"


def _stuck(names: Sequence[str], counts: ClassCounts) -> Iterator[str]:
    """The classes beside others that are predicted of no row, or of every one, though some rows have them."""
    shares, predicted = (counts.support / counts.rows).tolist(), (counts.predicted / counts.rows).tolist()
    for name, share, said in zip(names, shares, predicted, strict=True):
        if said in (0, 1) and 0 < share < 1:
            often = "always" if said else "never"
            yield f"class {name!r} is {often} predicted, which {_percent(share)} of the rows have"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - NAMED
    return "; ".join(parts[:NAMED]) + (f"; and {more} more" if more > 0 else "")
