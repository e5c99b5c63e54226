"""How the classes of each task were told apart, for `results.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.tasks import Task
from app.tasks.class_counts import ClassCounts
from app.tasks.decision import Decision


def by_class(counts: Mapping[str, ClassCounts], tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Plain values of each task, those that the rows do not define NaN.

    Args:
        counts: Task → of the rows of a split.
        tasks: Name → task.

    Returns:
        Task → `figures`, class → its precision, recall, F1 and support; `confusion`, for each class in the same order
        its rows by what they are said to be, if there are no more than 256; and what validation has set, such as
        `threshold`.
    """
    return {
        name: {"figures": _figures(each, tasks[name].target.class_names or ())}
        | ({} if each.matrix is None else {"confusion": each.matrix.tolist()})
        | _decided(tasks[name])
        for name, each in counts.items()
    }


def _figures(counts: ClassCounts, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    columns = {
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "support": counts.support,
    }
    lists = {quantity: values.tolist() for quantity, values in columns.items()}
    return {name: {quantity: lists[quantity][i] for quantity in lists} for i, name in enumerate(names)}


def _decided(task: Task) -> dict[str, float]:
    """What a validation has set."""
    decisions = [each for each in task.children() if isinstance(each, Decision)]
    return {name: value.item() for each in decisions for name, value in each.named_buffers()}
