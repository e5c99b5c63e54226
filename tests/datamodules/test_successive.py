"""One task after the other in every epoch."""

import numpy as np
import pytest
from draws import epoch_of, masks, plan_of, rows_of

from datamodules.errors import DataError
from datamodules.sampling import Plan, Successive

PARTIAL = masks(53, slice(0, 40), slice(30, 53, 2), slice(0, 9))  # of 40, 12 and 9 rows


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_is_a_pass_over_each_tasks_rows_in_order(ranks: int, accumulate: int, epoch: int) -> None:
    plan = plan_of(Successive(4, order=["task2", "task0", "task1"]), PARTIAL, ranks=ranks, accumulate=accumulate)
    visited: dict[int, list[int]] = {}
    windows = list(zip(*epoch_of(plan, epoch, ranks, accumulate), strict=True))
    assert len(windows) == len(plan)
    assert len(plan) % accumulate == 0
    for number, draws in enumerate(windows):
        (task,) = {task for task, count in enumerate(draws[0].counts) if count}
        window = windows[number - number % accumulate :][:accumulate]
        assert draws[0].counts[task] == sum(len(draw.rows) for each in window for draw in each)
        for draw in draws:
            assert draw.counts == draws[0].counts
            assert draw.feeds[task].all()
            assert not np.delete(draw.feeds, task, axis=0).any()
            visited.setdefault(task, []).extend(draw.rows.tolist())
    assert list(visited) == [2, 0, 1]
    for task, rows in visited.items():
        assert sorted(rows) == PARTIAL[task].nonzero().flatten().tolist()


def whole_steps(plan: Plan, ranks: int, accumulate: int) -> list[list[int]]:
    parts = rows_of_windows(plan, ranks, accumulate)
    return [
        sorted(row for part in parts[at : at + accumulate] for row in part) for at in range(0, len(parts), accumulate)
    ]


def rows_of_windows(plan: Plan, ranks: int, accumulate: int) -> list[list[int]]:
    steps = zip(*epoch_of(plan, 1, ranks, accumulate), strict=True)
    return [[row for draw in step for row in draw.rows.tolist()] for step in steps]


@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (3, 1), (1, 3), (2, 2)])
def test_ranks_and_micro_batches_divide_the_rows_of_one_large_batch(ranks: int, accumulate: int) -> None:
    for rows in range(1, 40):
        labelled = masks(rows, slice(None), slice(0, rows, 3))
        whole = [sorted(step) for step in rows_of(plan_of(Successive(4 * ranks * accumulate), labelled), 1)]
        plan = plan_of(Successive(4), labelled, ranks=ranks, accumulate=accumulate)
        assert whole_steps(plan, ranks, accumulate) == whole
        both = plan_of(
            Successive(global_batch_size=4 * ranks * accumulate), labelled, ranks=ranks, accumulate=accumulate
        )
        assert whole_steps(both, ranks, accumulate) == whole


def test_order_follows_from_seed_epoch_and_task() -> None:
    everything = masks(20, slice(None), slice(None))
    first, other = plan_of(Successive(20), everything), plan_of(Successive(20), everything, seed=1)
    orders = [*rows_of(first, 0), *rows_of(first, 1), *rows_of(other, 0)]
    assert len({tuple(order) for order in orders}) == 6
    assert rows_of(first, 0) == orders[:2]  # also out of turn
    visits = [int(first.draw(epoch, step)[1][0]) for epoch in range(2) for step in range(2)]
    assert visits == [0, 1, 2, 3]


def test_bad_settings_are_one_line() -> None:
    for order in (["task0"], ["task0", "task0", "task1"], ["task0", "task1", "else"]):
        with pytest.raises(
            DataError, match=r"^data\.sampling\.order: must name each of the tasks .* once, found \['task0'"
        ):
            plan_of(Successive(order=order), PARTIAL)
    with pytest.raises(DataError, match=r"^data\.sampling\.batch_size: must be at least 1, found 0"):
        Successive(batch_size=0)
