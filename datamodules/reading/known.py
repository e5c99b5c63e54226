"""Data under the contract of a network that is trained already: its targets are taken, and not worked out anew."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from torch import Tensor

from datamodules.batch import Inputs
from datamodules.contract import Contract
from datamodules.errors import DataError
from datamodules.reading.checks import shape_of
from datamodules.sources import Split
from datamodules.targets import Target


def taken_targets(declared: Mapping[str, Target], splits: Iterable[Split], contract: Contract) -> dict[str, Target]:
    """The targets that data takes from a contract; labels of the splits are numbered as there.

    Of a starting point, those are taken whose labels are of the same classes or unit. Of a network that is used as it
    is, all are: a row of a class that it was not trained on loses its label, and that is said.

    Args:
        declared: Task → what the sources say that its label is.
        splits: All splits of all sources.
        contract: What the network was trained for.

    Raises:
        ValueError: The labels of a task are of another kind than those that it was trained on.
    """
    taken = dict(contract.targets) if contract.whole else {}
    for task, target in declared.items():
        trained = contract.targets.get(task)
        numbers = None if trained is None else target.numbers_in(trained)
        if trained is None or target.same_labels(trained):
            taken |= {} if trained is None else {task: trained}
        elif numbers is not None and (contract.whole or _same_names(target, trained)):
            _renumber(task, target, numbers, splits)
            taken[task] = trained
        elif contract.whole:
            rule = f"target {task!r} must be what the network was trained on, {_in_words(trained)}"
            raise DataError("data.sources", rule, _in_words(target))
    return taken


def check_shape(key: str, example: Inputs, contract: Contract) -> None:
    """Refuse inputs of another shape than those that a network was trained on; `key` is what a message calls them.

    Raises:
        ValueError: They are.
    """
    shape = shape_of(example)
    if contract.whole and shape != contract.input_shape:
        raise DataError(key, f"inputs must be of the shape {contract.input_shape}, as in training", shape)


def _same_names(one: Target, other: Target) -> bool:
    """Whether two targets have the same classes, in whatever order."""
    return {*(one.class_names or ())} == {*(other.class_names or ())}


def _renumber(task: str, target: Target, numbers: Tensor, splits: Iterable[Split]) -> None:
    """Give the classes of the labels other `numbers` [C], and tell of the rows that lose theirs."""
    lost = sum(split.renumber(task, numbers) for split in splits if task in split.labelled)
    if lost:
        names = zip(target.class_names or (), numbers.tolist(), strict=True)
        others = ", ".join([name for name, number in names if number < 0][:5])
        text = f"target {task!r}: {lost} rows of classes that were not trained cannot be scored: {others}"
        warnings.warn(text, stacklevel=2)


def _in_words(target: Target) -> str:
    names = "" if target.class_names is None else f" of {', '.join(target.class_names)}"
    return f"{type(target).__name__}{names}"
