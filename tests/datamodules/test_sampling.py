"""Which rows a step draws, on each rank, before and after a resume."""

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.dataset import MultiTaskDataset
from datamodules.sampling import Draw, DrawSampler, PerTask, Plan, Sampling, Shared
from datamodules.sources import TensorSplit


def masks(rows: int, *tasks: slice) -> Tensor:
    """Which of `rows` each task has a label for, [T, N]."""
    labelled = torch.zeros(len(tasks), rows, dtype=torch.bool)
    for task, part in enumerate(tasks):
        labelled[task, part] = True
    return labelled


PARTIAL = masks(53, slice(0, 40), slice(30, 53, 2))  # 12 rows at the end lack a label
SIZES = {0: slice(0, 10), 1: slice(5, 105), 2: slice(100, 5100)}
UNEQUAL = masks(5200, *SIZES.values())


def epoch_of(
    plan: Plan, epoch: int, ranks: int = 1, accumulate: int = 1, length: int | None = None
) -> list[list[Draw]]:
    """The draws of one epoch, rank → micro-batch."""
    length = len(plan) if length is None else length
    return [
        list(DrawSampler(plan, rank, ranks, accumulate, length, position=lambda: (epoch, 0))) for rank in range(ranks)
    ]


def rows_of(plan: Plan, epoch: int, ranks: int = 1) -> list[list[int]]:
    """Rows of each micro-batch on all ranks together."""
    steps = zip(*epoch_of(plan, epoch, ranks), strict=True)
    return [[row for draw in step for row in draw.rows.tolist()] for step in steps]


def same(ours: list[Draw], theirs: list[Draw]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a.rows, b.rows) and torch.equal(a.feeds, b.feeds) and a.counts == b.counts
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 4])
def test_shared_visits_every_labelled_row_once_an_epoch(ranks: int, epoch: int) -> None:
    by_rank = epoch_of(Shared(batch_size=4).plan(PARTIAL, ranks, seed=0), epoch, ranks)
    visited = [row for draws in by_rank for draw in draws for row in draw.rows.tolist()]
    assert sorted(visited) == PARTIAL.any(dim=0).nonzero().flatten().tolist()
    for draws in by_rank:
        assert all(len(draw.rows) == 4 for draw in draws[:-1])
        assert all(torch.equal(draw.feeds, PARTIAL[:, draw.rows]) for draw in draws)


@pytest.mark.parametrize("sampling", [Shared(8), PerTask(steps_per_epoch=5, batch_size=8)])
def test_order_follows_from_seed_and_epoch(sampling: Sampling) -> None:
    first = sampling.plan(PARTIAL, 1, seed=3)
    orders = [rows_of(first, epoch) for epoch in range(4)]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))
    assert orders == [rows_of(sampling.plan(PARTIAL, 1, seed=3), epoch) for epoch in range(4)]
    assert orders[2] == rows_of(first, 2)  # also out of turn
    assert orders[0] != rows_of(sampling.plan(PARTIAL, 1, seed=4), 0)


@pytest.mark.parametrize("sampling", [Shared, lambda batch_size: PerTask(steps_per_epoch=6, batch_size=batch_size)])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_divide_the_rows_of_one_large_batch(sampling, ranks: int) -> None:
    whole = rows_of(sampling(batch_size=4 * ranks).plan(PARTIAL, 1, seed=0), epoch=1)
    parts = rows_of(sampling(batch_size=4).plan(PARTIAL, ranks, seed=0), epoch=1, ranks=ranks)
    assert [sorted(step) for step in parts] == [sorted(step) for step in whole]


@pytest.mark.parametrize(
    ("rows", "batch_size", "ranks", "pages"),
    [
        (12, 2, 3, [6, 6]),
        (13, 2, 3, [6, 7]),
        (14, 2, 3, [6, 8]),
        (15, 2, 3, [6, 6, 3]),
        (7, 1, 3, [3, 4]),
        (5, 1, 3, [5]),
        (4, 2, 3, [4]),
        (13, 6, 2, [13]),
        (5, 2, 1, [2, 2, 1]),
    ],
)
def test_last_page_has_a_row_for_every_rank(rows: int, batch_size: int, ranks: int, pages: list[int]) -> None:
    plan = Shared(batch_size).plan(masks(rows, slice(None)), ranks, seed=0)
    assert len(plan) == len(pages)
    assert [len(step) for step in rows_of(plan, 0, ranks)] == pages
    assert all(len(draw.rows) for draws in epoch_of(plan, 0, ranks) for draw in draws)


@pytest.mark.parametrize("ranks", [1, 2])
def test_per_task_draws_every_task_alike_whatever_its_size(ranks: int) -> None:
    plan = PerTask(steps_per_epoch=7, batch_size=6).plan(UNEQUAL, ranks, seed=0)
    for epoch in range(3):
        for draws in epoch_of(plan, epoch, ranks):
            assert len(draws) == 7
            for draw in draws:
                assert draw.feeds.sum(dim=1).tolist() == [6, 6, 6]
                assert draw.feeds.sum(dim=0).tolist() == [1] * 18  # a row feeds the task it was drawn for
                assert UNEQUAL[:, draw.rows][draw.feeds].all()
                assert draw.counts == [6 * ranks] * 3


def test_per_task_row_counts_differ_by_one_at_most_at_any_time() -> None:
    plan = PerTask(steps_per_epoch=7, batch_size=16).plan(UNEQUAL, 1, seed=0)
    counts = [Counter(dict.fromkeys(range(part.start, part.stop), 0)) for part in SIZES.values()]
    for epoch in range(4):  # 448 rows a task: 45 passes over the first, a part of one over the last
        for draw in epoch_of(plan, epoch)[0]:
            for task, count in enumerate(counts):
                count.update(draw.rows[draw.feeds[task]].tolist())
                assert max(count.values()) - min(count.values()) <= 1
    assert min(counts[0].values()) == 44


def test_per_task_streams_go_on_over_the_end_of_an_epoch() -> None:
    plan = PerTask(steps_per_epoch=3, batch_size=4).plan(UNEQUAL, 1, seed=0)
    stream = [row for e in range(25) for draw in epoch_of(plan, e)[0] for row in draw.rows[draw.feeds[0]].tolist()]
    passes = [tuple(stream[start : start + 10]) for start in range(0, 300, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(passes)) == 30  # each shuffled anew
    long = PerTask(steps_per_epoch=75, batch_size=4).plan(UNEQUAL, 1, seed=0)
    assert stream == [row for draw in epoch_of(long, 0)[0] for row in draw.rows[draw.feeds[0]].tolist()]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_per_task_epochs_are_optimizer_steps(accumulate: int) -> None:
    plan = PerTask(steps_per_epoch=5, batch_size=4).plan(UNEQUAL, 2, seed=0, accumulate=accumulate)
    assert [len(draws) for draws in epoch_of(plan, 0, 2, accumulate)] == [5 * accumulate] * 2
    large = PerTask(steps_per_epoch=5, batch_size=4 * accumulate).plan(UNEQUAL, 2, seed=0)
    for epoch in range(3):
        parts = rows_of(plan, epoch, ranks=2)
        for step, expected in enumerate(rows_of(large, epoch, ranks=2)):
            window = parts[step * accumulate : (step + 1) * accumulate]
            assert sorted(row for part in window for row in part) == sorted(expected)


def test_per_task_shuffles_tasks_with_the_same_rows_apart() -> None:
    (draw,) = epoch_of(PerTask(1, batch_size=50).plan(masks(50, slice(None), slice(None)), 1, seed=0), 0)[0]
    assert draw.rows[:50].tolist() != draw.rows[50:].tolist()


PLANS = {
    "shared": Shared(2).plan(PARTIAL, 2, seed=1),  # 12 pages
    "per_task": PerTask(11, batch_size=2).plan(UNEQUAL, 2, seed=1),
}
plans = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


@plans
@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize("length", [None, 4])
def test_counts_are_the_labelled_rows_of_the_whole_window(plan: Plan, accumulate: int, length: int | None) -> None:
    by_rank = epoch_of(plan, 1, 2, accumulate, length)
    assert all(len(draws) == (length or len(plan)) for draws in by_rank)
    for first in range(0, len(by_rank[0]), accumulate):  # the last window is a short one, for 5 always
        window = [draw for draws in by_rank for draw in draws[first : first + accumulate]]
        expected = torch.stack([draw.feeds.sum(dim=1) for draw in window]).sum(dim=0).tolist()
        assert [draw.counts for draw in window] == [expected] * len(window)


@plans
@pytest.mark.parametrize("accumulate", [1, 3])
def test_resumed_epoch_is_the_tail_of_the_whole_one(plan: Plan, accumulate: int) -> None:
    for rank in range(2):
        whole = epoch_of(plan, 2, 2, accumulate)[rank]
        for done in range(len(plan) + 1):
            tail = list(DrawSampler(plan, rank, 2, accumulate, len(plan), position=lambda done=done: (2, done)))
            assert same(tail, whole[done:]), done


def test_position_is_read_when_an_iteration_begins() -> None:
    plan, position = PLANS["shared"], [0, 0]
    sampler = DrawSampler(plan, 0, 1, 1, len(plan), position=lambda: tuple(position))
    begun = iter(sampler)
    position[:] = [3, 5]
    assert same(list(begun), epoch_of(plan, 0)[0])
    assert same(list(sampler), epoch_of(plan, 3)[0][5:])
    assert len(sampler) == len(plan)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_that_run_ahead_do_not_move_the_position(workers: int) -> None:
    plan, position = PLANS["shared"], [0, 0]
    split = TensorSplit(
        torch.zeros(53, 1), {task: torch.zeros(53) for task in "ab"}, dict(zip("ab", PARTIAL, strict=True))
    )
    loader = DataLoader(
        MultiTaskDataset([split], ["a", "b"]),
        sampler=DrawSampler(plan, 0, 1, 1, len(plan), position=lambda: tuple(position)),
        batch_size=None, num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip
    for epoch in range(2):
        position[:] = [epoch, 0]
        seen = []
        for step, batch in enumerate(loader):
            seen.append(batch.ids.tolist())
            position[:] = [epoch, step + 1]  # as a trainer counts
        assert seen == rows_of(plan, epoch)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: Shared(batch_size=0), "data.sampling.batch_size"),
        (lambda: PerTask(5, batch_size=0), "data.sampling.batch_size"),
        (lambda: PerTask(0), "data.sampling.steps_per_epoch"),
    ],
)
def test_sizes_below_one_are_refused(build, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: must be at least 1, found 0$"):
        build()
