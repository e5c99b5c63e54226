"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table


def by_task(values: Mapping[str, float], stage: str) -> dict[str, dict[str, float]]:
    """Regroup curves.

    Args:
        values: `<quantity>/<stage>/<task>` → value; what has another name is left out.
        stage: Which stage's are wanted.

    Returns:
        Task → quantity → value, without the total over the tasks; "mean" is a task for what they have in common.
    """
    tasks: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        match name.split("/"):
            case quantity, of, task if of == stage and task != "total":
                tasks.setdefault(task, {})[quantity] = value
    return tasks


def table(tasks: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Tasks as rows, quantities as columns, as `by_task` gives them."""
    quantities = list(dict.fromkeys(quantity for metrics in tasks.values() for quantity in metrics))
    result = Table("task", *quantities, title=title)
    for task, metrics in tasks.items():
        result.add_row(task, *(f"{metrics[quantity]:.4f}" if quantity in metrics else "" for quantity in quantities))
    return result
