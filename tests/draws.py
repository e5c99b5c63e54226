"""What plans draw, worked out for all ranks."""

import numpy as np
import torch
from torch import Tensor

from datamodules.sampling import Draw, DrawSampler, Plan, Sampling, World


def masks(rows: int, *tasks: slice) -> Tensor:
    """Which of `rows` each task has a label for, [T, N]."""
    labelled = torch.zeros(len(tasks), rows, dtype=torch.bool)
    for task, part in enumerate(tasks):
        labelled[task, part] = True
    return labelled


def plan_of(sampling: Sampling, labelled: Tensor, seed: int = 0, ranks: int = 1, accumulate: int = 1) -> Plan:
    return sampling.plan(labelled, [f"task{number}" for number in range(len(labelled))], seed, ranks, accumulate)


def epoch_of(
    plan: Plan, epoch: int, ranks: int = 1, accumulate: int = 1, length: int | None = None
) -> list[list[Draw]]:
    """The draws of one epoch, rank → micro-batch."""
    worlds = [
        World(rank, ranks, accumulate, 1.0 if length is None else length, lambda: (epoch, 0)) for rank in range(ranks)
    ]
    return [list(DrawSampler(plan, world)) for world in worlds]


def rows_of(plan: Plan, epoch: int, ranks: int = 1) -> list[list[int]]:
    """Rows of each micro-batch on all ranks together."""
    steps = zip(*epoch_of(plan, epoch, ranks), strict=True)
    return [[row for draw in step for row in draw.rows.tolist()] for step in steps]


def same(ours: list[Draw], theirs: list[Draw]) -> bool:
    return len(ours) == len(theirs) and all(
        np.array_equal(a.rows, b.rows) and np.array_equal(a.feeds, b.feeds) and a.counts == b.counts
        for a, b in zip(ours, theirs, strict=True)
    )
