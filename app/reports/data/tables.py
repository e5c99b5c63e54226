"""What the labels are, and how they are shared out over the tasks, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table
from torch import Tensor

from datamodules.contract import Dates, Feature, Texts
from datamodules.sampling import Plan
from datamodules.sources import SplitName
from datamodules.targets import Target

GAPS = 0.1  # share of empty cells
MANY_TEXTS = 50  # distinct values of a column
STEPS = 1_000  # from which the shares are counted, or fewer where an epoch has fewer


@dataclass(frozen=True)
class Drawn:
    """What the sampling draws.

    Attributes:
        shares: [T] the part of a step's rows that feeds each task. A row may feed several.
        rows: Rows of a step, on the average.
        steps: Optimizer steps in an epoch.
    """

    shares: list[float]
    rows: float
    steps: int


def drawn(plan: Plan, micro_batches: int, accumulate: int) -> Drawn:
    """Count what the first steps of an epoch draw.

    Args:
        plan: What all processes draw together.
        micro_batches: Micro-batches of an epoch.
        accumulate: Micro-batches a step.
    """
    counted = min(micro_batches, STEPS * accumulate)
    feeds = [plan.draw(0, step)[2] for step in range(counted)]
    fed = sum(each.sum(axis=1) for each in feeds)
    rows = sum(each.shape[1] for each in feeds)
    steps_counted = -(-counted // accumulate)
    return Drawn((fed / rows).tolist(), rows / steps_counted, -(-micro_batches // accumulate))


def task_table(
    targets: Mapping[str, Target],
    labelled: Mapping[SplitName, Tensor],
    draws: Drawn,
    sampled: Mapping[str, Sequence[Tensor]] | None = None,
) -> Table:
    """A row a task.

    Args:
        targets: Task → what its label is, with the statistics of the training split.
        labelled: Split → [T, N] bool: which rows carry a label of which task.
        draws: What the sampling draws, in the same order of tasks.
        sampled: Dense task → labels of some training rows.
    """
    caption = "share: the part of a step's rows that feeds the task"
    if sampled:
        rows = max(len(labels) for labels in sampled.values())
        caption += f"; in training, shares are of the pixels of {rows} rows where labels are dense"
    table = Table("task", "kind", title="labels", caption=caption)
    for split in labelled:
        table.add_column(split, justify="right")
    table.add_column("in training")
    table.add_column("share", justify="right")
    for t, (task, target) in enumerate(targets.items()):
        counts = [str(int(mask[t].sum())) for mask in labelled.values()]
        share = f"{draws.shares[t]:.1%}"
        words = escape(target.summary((sampled or {}).get(task, ())))
        table.add_row(task, type(target).__name__, *counts, words, share)
    table.add_section()
    table.add_row("rows", "", *(str(mask.shape[1]) for mask in labelled.values()), "", "")
    return table


def feature_table(features: Sequence[Feature]) -> Table:
    """A row a feature column of the training split."""
    table = Table("feature", "kind", "in training", title="features")
    for column in ("missing", "inputs"):
        table.add_column(column, justify="right")
    for feature in features:
        cells = (feature.name, feature.kind, feature.range, f"{feature.missing:.1%}", str(len(feature.inputs)))
        table.add_row(*map(escape, cells))
    table.add_section()
    table.add_row("", "", "", "", str(sum(len(feature.inputs) for feature in features)))
    return table


def many_texts(features: Sequence[Feature]) -> list[str]:
    """A line for each column of text that becomes many inputs."""
    return [
        f"{feature.name} has {feature.range}: an input each; `kind: hashed` makes fewer of it"
        for feature in features
        if isinstance(feature, Texts) and len(feature.values) > MANY_TEXTS
    ]


def dates(features: Sequence[Feature]) -> list[str]:
    """A line for each column of dates, on what becomes of it."""
    return [
        f"{feature.name} has dates: the inputs are {', '.join(feature.inputs)}"
        for feature in features
        if isinstance(feature, Dates)
    ]


def gaps(features: Sequence[Feature]) -> list[str]:
    """A line for each column with many empty cells, on what becomes of them."""
    return [
        f"warning: {feature.name} is empty in {feature.missing:.1%} of training; an input of its own says where"
        for feature in features
        if feature.missing > GAPS
    ]
