"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

from rich.console import Console
from rich.table import Table

from app.runs import tell

MOST_COLUMNS = 7  # of quantities that a terminal of 80 columns shows


def by_task(values: Mapping[str, float], stage: str) -> dict[str, dict[str, float]]:
    """Regroup curves.

    Args:
        values: `<quantity>/<stage>/<task>`, or with a class `…/<class>` → value; what has another name is left out.
        stage: Which stage's are wanted.

    Returns:
        Task → quantity, or `<quantity>/<class>` → value, without the total over the tasks; "mean" is a task for what
        they have in common.
    """
    tasks: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        match name.split("/"):
            case quantity, of, task, *of_class if of == stage and task != "total":
                tasks.setdefault(task, {})["/".join([quantity, *of_class])] = value
    return tasks


def table(tasks: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Tasks as rows, quantities as columns, as `by_task` gives them; the other way round if these would not fit."""
    quantities = list(dict.fromkeys(quantity for metrics in tasks.values() for quantity in metrics))
    cells = [[f"{metrics[q]:.4f}" if q in metrics else "" for q in quantities] for metrics in tasks.values()]
    if len(quantities) > max(MOST_COLUMNS, len(tasks)):
        result = Table("", *tasks, title=title)
        rows, heads = list(zip(*cells, strict=True)), quantities
    else:
        result = Table(
            "task", *(quantity.replace("_", " ") for quantity in quantities), title=title
        )  # lines break there
        rows, heads = [tuple(row) for row in cells], list(tasks)
    for head, row in zip(heads, rows, strict=True):
        result.add_row(head, *row)
    return result


def tell_figures(stage: str, values: Mapping[str, float]) -> None:
    """Tell a stage's figures, task by task."""
    text = StringIO()
    Console(file=text, width=Console().width).print(table(by_task(values, stage), title=stage))
    tell(text.getvalue().rstrip())
