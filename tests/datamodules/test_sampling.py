"""Which rows a step draws, on each rank, before and after a resume."""

import numpy as np
import pytest
import torch
from draws import epoch_of, masks, plan_of, rows_of, same

from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.loader import load
from datamodules.sampling import DrawSampler, Pages, PerTask, Plan, Sampling, Shared, World
from datamodules.sources import TensorSplit

PARTIAL = masks(53, slice(0, 40), slice(30, 53, 2))  # 12 rows at the end lack a label
SIZES = {0: slice(0, 10), 1: slice(5, 105), 2: slice(100, 5100)}
UNEQUAL = masks(5200, *SIZES.values())


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 4])
def test_shared_visits_every_labelled_row_once_an_epoch(ranks: int, epoch: int) -> None:
    by_rank = epoch_of(plan_of(Shared(batch_size=4), PARTIAL, ranks=ranks), epoch, ranks)
    visited = [row for draws in by_rank for draw in draws for row in draw.rows.tolist()]
    assert sorted(visited) == PARTIAL.any(dim=0).nonzero().flatten().tolist()
    for draws in by_rank:
        assert all(len(draw.rows) == 4 for draw in draws[:-1])
        assert all(np.array_equal(draw.feeds, PARTIAL[:, draw.rows]) for draw in draws)


@pytest.mark.parametrize("sampling", [Shared(8), PerTask(epoch_length=5, batch_size=8)])
def test_order_follows_from_seed_and_epoch(sampling: Sampling) -> None:
    first = plan_of(sampling, PARTIAL, seed=3)
    orders = [rows_of(first, epoch) for epoch in range(4)]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))
    assert orders == [rows_of(plan_of(sampling, PARTIAL, seed=3), epoch) for epoch in range(4)]
    assert orders[2] == rows_of(first, 2)  # also out of turn
    assert orders[0] != rows_of(plan_of(sampling, PARTIAL, seed=4), 0)


@pytest.mark.parametrize("sampling", [Shared, lambda batch_size: PerTask(epoch_length=6, batch_size=batch_size)])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_divide_the_rows_of_one_large_batch(sampling, ranks: int) -> None:
    whole = rows_of(plan_of(sampling(batch_size=4 * ranks), PARTIAL), epoch=1)
    parts = rows_of(plan_of(sampling(batch_size=4), PARTIAL, ranks=ranks), epoch=1, ranks=ranks)
    assert [sorted(step) for step in parts] == [sorted(step) for step in whole]


@pytest.mark.parametrize(
    ("rows", "batch_size", "ranks", "pages"),
    [
        (12, 2, 3, [6, 6]),
        (13, 2, 3, [6, 7]),
        (14, 2, 3, [6, 6, 2]),
        (50, 8, 3, [24, 24, 2]),
        (18, 4, 2, [8, 8, 2]),
        (7, 1, 3, [3, 4]),
        (5, 1, 3, [3, 2]),
        (4, 2, 3, [4]),
        (13, 6, 2, [13]),
        (5, 2, 1, [2, 3]),
        (6, 4, 1, [4, 2]),
        (3, 1, 1, [1, 1, 1]),
        (1, 4, 2, [1]),
    ],
)
def test_a_single_row_at_the_end_joins_the_page_before(
    rows: int, batch_size: int, ranks: int, pages: list[int]
) -> None:
    plan = plan_of(Shared(batch_size), masks(rows, slice(None)), ranks=ranks)
    assert len(plan) == len(pages)
    assert [len(step) for step in rows_of(plan, 0, ranks)] == pages


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_pages_of_ranks_are_those_of_one_process(ranks: int, batch_size: int) -> None:
    for rows in range(1, 60):
        labelled = masks(rows, slice(None), slice(0, rows, 2))
        whole = rows_of(plan_of(Shared(batch_size * ranks), labelled), 1)
        plan = plan_of(Shared(batch_size), labelled, ranks=ranks)
        assert [sorted(step) for step in rows_of(plan, 1, ranks)] == [sorted(step) for step in whole]
        sizes = [len(draw.rows) for draws in epoch_of(plan, 1, ranks) for draw in draws]
        assert max(sizes) <= batch_size + 1
        if batch_size > 1 and rows > 1:
            assert 1 not in sizes


def test_evaluation_gives_every_rank_a_row() -> None:
    plan = Pages(masks(3, slice(None)), lambda epoch: np.arange(3), 8, ranks=3, fewest=1)
    assert [[len(draw.rows) for draw in draws] for draws in epoch_of(plan, 0, 3)] == [[1], [1], [1]]


QUARTERS = {"task0": 0.25, "task1": 0.25, "task2": 0.5}
PLANS = {
    "shared": plan_of(Shared(2), PARTIAL, seed=1, ranks=2),  # 12 pages
    **{
        name: plan_of(PerTask(1, epoch_length=11, **options), UNEQUAL, seed=1, ranks=2)
        for name, options in {
            "uniform": {},
            "temperature": {"probabilities": "proportional", "temperature": 4.0},
            "explicit": {"probabilities": QUARTERS},
            "some tasks": {"probabilities": QUARTERS, "tasks_per_step": 2},
            "round robin": {"round_robin": True},
            "periods": {"periods": {"task0": 3}},
        }.items()
    },
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
        expected = sum(draw.feeds.sum(axis=1) for draw in window).tolist()
        assert [draw.counts for draw in window] == [expected] * len(window)


@plans
@pytest.mark.parametrize("accumulate", [1, 3])
def test_resumed_epoch_is_the_tail_of_the_whole_one(plan: Plan, accumulate: int) -> None:
    for rank in range(2):
        whole = epoch_of(plan, 2, 2, accumulate)[rank]
        for done in range(len(plan) + 1):
            tail = list(DrawSampler(plan, World(rank, 2, accumulate, position=lambda done=done: (2, done))))
            assert same(tail, whole[done:]), done


def test_position_is_read_when_an_iteration_begins() -> None:
    plan, position = PLANS["shared"], [0, 0]
    sampler = DrawSampler(plan, World(position=lambda: tuple(position)))
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
    sampler = DrawSampler(plan, World(position=lambda: tuple(position)))
    loader = load(MultiTaskDataset({"mine": split}, ["a", "b"]), sampler, workers)
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
        (lambda: PerTask(batch_size=0), "data.sampling.batch_size"),
        (lambda: PerTask(epoch_length=0), "data.sampling.epoch_length"),
    ],
)
def test_sizes_below_one_are_refused(build, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: must be at least 1, found 0$"):
        build()
