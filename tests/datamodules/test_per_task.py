"""Which rows `PerTask` draws for which task."""

from collections import Counter

import numpy as np
import pytest
import torch
from draws import epoch_of, masks, plan_of, rows_of
from torch import Tensor

from datamodules.sampling import Integers, PerTask
from datamodules.sampling.stream import Stream, spaced

SIZES = {0: slice(0, 10), 1: slice(10, 110), 2: slice(110, 5110)}
UNEQUAL = masks(5110, *SIZES.values())
OVERLAPPING = masks(60, slice(None), slice(0, 40), slice(20, None, 2))

LARGE = (100, 1_000, 50_000)
PROBABILITIES = {"task0": 0.1, "task1": 0.3, "task2": 0.6}
ROWS = 12  # a task and step, on all ranks together
STRATEGIES = {  # options → expected share of the rows
    "uniform": ({}, (1 / 3, 1 / 3, 1 / 3)),
    "proportional": ({"probabilities": "proportional"}, tuple(n / sum(LARGE) for n in LARGE)),
    "temperature": (
        {"probabilities": "proportional", "temperature": 2.0},
        tuple(n**0.5 / sum(m**0.5 for m in LARGE) for n in LARGE),
    ),
    "explicit": ({"probabilities": PROBABILITIES}, tuple(PROBABILITIES.values())),
    "round robin": ({"round_robin": True}, (1 / 3, 1 / 3, 1 / 3)),
    "one task a step": ({"tasks_per_step": 1, "probabilities": PROBABILITIES}, tuple(PROBABILITIES.values())),
    "two tasks a step": ({"tasks_per_step": 2}, (1 / 3, 1 / 3, 1 / 3)),
    "periods": ({"periods": {"task0": 4, "task1": 2}}, (1 / 7, 2 / 7, 4 / 7)),
    "batch sizes": ({"batch_size": {"task0": 6, "task1": 6, "task2": 12}}, (1 / 4, 1 / 4, 1 / 2)),
}


def disjoint(sizes: tuple[int, ...]) -> Tensor:
    ends = np.cumsum(sizes)
    return masks(sum(sizes), *(slice(end - size, end) for size, end in zip(sizes, ends, strict=True)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ten_thousand_steps_of_unequal_tasks(strategy: str) -> None:
    options, expected = STRATEGIES[strategy]
    plan = plan_of(PerTask(**{"batch_size": ROWS, "epoch_length": 2_500, **options}), disjoint(LARGE), seed=1)
    streams: list[list[Integers]] = [[], [], []]
    for epoch in range(4):
        for step in range(2_500):
            rows, _, feeds = plan.draw(epoch, step)
            assert len(rows) == len(set(rows.tolist()))  # so that no two ranks hold the same, however it is divided
            for task in range(3):
                streams[task].append(rows[feeds[task]])
    drawn = [torch.from_numpy(np.concatenate(stream)) for stream in streams]
    shares = torch.tensor([len(each) for each in drawn]) / sum(len(each) for each in drawn)
    assert shares.tolist() == pytest.approx(expected, rel=0.01)
    for first, size, rows in zip(np.cumsum((0, *LARGE)), LARGE, drawn, strict=False):
        passes = rows.split(size)
        assert len(passes) > 1 or strategy != "uniform"
        assert all(torch.equal(each.sort().values, torch.arange(first, first + size)) for each in passes[:-1])
        assert len(passes[-1].unique()) == len(passes[-1])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (3, 1), (1, 3), (2, 3)])
def test_ranks_and_micro_batches_divide_one_large_batch(strategy: str, ranks: int, accumulate: int) -> None:
    options = {"epoch_length": 40, **STRATEGIES[strategy][0]}
    labelled, parts = disjoint((36, 40, 300)), ranks * accumulate
    whole, divided = ({"batch_size": ROWS, **options}, {"batch_size": ROWS // parts, **options})
    if "batch_size" in options:
        divided["batch_size"] = {task: size // parts for task, size in options["batch_size"].items()}
    large = rows_of(plan_of(PerTask(**whole), labelled), epoch=1)
    plan = plan_of(PerTask(**divided), labelled, ranks=ranks, accumulate=accumulate)
    by_rank = epoch_of(plan, 1, ranks, accumulate)
    sizes = {len(draw.rows) for draws in by_rank for draw in draws}
    assert max(sizes) - min(sizes) <= (0 if "periods" not in options else ROWS * 2 // parts)
    for step, expected in enumerate(large):
        window = [draw for draws in by_rank for draw in draws[step * accumulate : (step + 1) * accumulate]]
        assert sorted(row for draw in window for row in draw.rows.tolist()) == sorted(expected)
        assert all(draw.counts == window[0].counts for draw in window)


def test_any_tasks_meet_in_a_step() -> None:
    plan = plan_of(PerTask(2, tasks_per_step=2, epoch_length=128), disjoint((20,) * 5))
    meetings = Counter(tuple(np.flatnonzero(plan.draw(0, step)[2].any(axis=1)).tolist()) for step in range(128))
    assert len(meetings) == 10
    assert max(meetings.values()) < 30  # of 12.8 expected


def test_round_robin_takes_the_tasks_in_turn() -> None:
    plan = plan_of(PerTask(2, round_robin=True, tasks_per_step=2, epoch_length=4), disjoint((20,) * 3))
    turns = [np.flatnonzero(plan.draw(e, s)[2].any(axis=1)).tolist() for e in range(2) for s in range(4)]
    assert turns == [[0, 1], [0, 2], [1, 2], [0, 1], [0, 2], [1, 2], [0, 1], [0, 2]]


def test_periods_begin_with_the_first_step() -> None:
    plan = plan_of(PerTask(2, periods={"task1": 3}, epoch_length=5), disjoint((20, 20)))
    assert [bool(plan.draw(e, s)[2][1].any()) for e in range(2) for s in range(5)] == [s % 3 == 0 for s in range(10)]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"epoch_length": "longest"}, 5000),
        ({"epoch_length": "shortest"}, 10),
        ({"epoch_length": "total"}, 1704),  # ceil(5110 / 3)
        ({"epoch_length": 7}, 7),
        ({"epoch_length": "longest", "batch_size": {"task0": 3, "task1": 9, "task2": 100}}, 50),
        ({"epoch_length": "shortest", "batch_size": {"task0": 3, "task1": 9, "task2": 100}}, 4),
        ({"epoch_length": "total", "batch_size": {"task0": 3, "task1": 9, "task2": 100}}, 46),  # ceil(5110 / 112)
        ({"epoch_length": "longest", "tasks_per_step": 1}, 15000),
        ({"epoch_length": "shortest", "periods": {"task0": 4}}, 40),
        ({"epoch_length": "longest", "probabilities": "proportional"}, 1704),
    ],
)
def test_length_of_an_epoch(options: dict, steps: int) -> None:
    assert len(plan_of(PerTask(**{"batch_size": 1, **options}), UNEQUAL)) == steps


def test_an_epoch_is_shorter_where_steps_are_larger() -> None:
    for length, steps in [("longest", 834), (7, 7)]:
        plan = plan_of(PerTask(1, epoch_length=length), UNEQUAL, ranks=2, accumulate=3)
        assert len(plan) == 3 * steps  # micro-batches


def test_rows_drawn_for_two_tasks_come_once() -> None:
    plan = plan_of(PerTask(5, epoch_length=50), OVERLAPPING, ranks=2)
    twice = 0
    for first, second in zip(*epoch_of(plan, 0, ranks=2), strict=True):
        rows = np.concatenate([first.rows, second.rows])
        feeds = np.concatenate([first.feeds, second.feeds], axis=1)
        assert len(np.unique(rows)) == len(rows)
        assert feeds.sum(axis=1).tolist() == first.counts == [10, 10, 10]
        assert OVERLAPPING[:, rows][feeds].all()
        twice += int((feeds.sum(axis=0) > 1).sum())
    assert twice > 0


def test_a_row_feeds_the_task_it_was_drawn_for() -> None:
    plan = plan_of(PerTask(5, epoch_length=20), OVERLAPPING)
    draws = epoch_of(plan, 0)[0]
    assert any(not np.array_equal(draw.feeds, OVERLAPPING[:, draw.rows]) for draw in draws)


@pytest.mark.parametrize(("rows", "gap"), [(7, 7), (10, 9), (10, 6), (20, 7), (50, 9), (8, 1), (1, 1)])
def test_stream_repeats_no_row_within_the_gap(rows: int, gap: int) -> None:
    names = np.arange(100, 100 + rows)
    stream = Stream(names, gap, key=(3, 1))
    taken, passes = (np.concatenate(part) for part in zip(*(stream.take(i, 1) for i in range(40 * rows)), strict=True))
    for start in range(len(taken) - gap + 1):
        assert len(set(taken[start : start + gap])) == gap
    orders = taken.reshape(40, rows)
    assert (np.sort(orders, axis=1) == names).all()
    assert (passes == np.repeat(np.arange(40), rows)).all()
    if rows > 1 and gap < rows:
        assert len({tuple(order) for order in orders}) > 30  # each shuffled anew
    for start in (39 * rows - gap // 2, 3, 17 * rows - 1):  # out of turn, over the end of a pass
        later = Stream(names, gap, key=(3, 1))
        assert (later.take(start, gap)[0] == taken[start : start + gap]).all()
        assert (stream.take(start, gap)[0] == taken[start : start + gap]).all()


def test_spacing_moves_no_more_than_it_must() -> None:
    assert spaced(np.array([0, 1, 2, 3, 4]), np.array([], dtype=int)).tolist() == [0, 1, 2, 3, 4]
    assert spaced(np.array([0, 1, 2, 3, 4]), np.array([3, 4])).tolist() == [0, 1, 2, 3, 4]
    assert spaced(np.array([4, 3, 0, 1, 2]), np.array([3, 4])).tolist() == [0, 3, 4, 1, 2]


@pytest.mark.parametrize("used", [3, 5])
def test_an_epoch_begins_where_a_limited_one_ended(used: int) -> None:
    sampling, tasks = PerTask(4, epoch_length=10), ["task0", "task1", "task2"]
    limited = sampling.plan(UNEQUAL, tasks, seed=0, limit=lambda length: used)
    whole = sampling.plan(UNEQUAL, tasks, seed=0)
    assert len(limited) == 10
    seen = [limited.draw(epoch, step)[0].tolist() for epoch in range(2) for step in range(used)]
    assert seen == [whole.draw(0, step)[0].tolist() for step in range(2 * used)]


def test_visits_tell_the_passes_and_tasks_of_a_row_apart() -> None:
    plan = plan_of(PerTask(5, epoch_length=100), OVERLAPPING)
    seen = Counter()
    for step in range(100):
        rows, visits, feeds = plan.draw(0, step)
        alone = feeds.sum(axis=0) == 1
        seen.update(zip(rows[alone].tolist(), visits[alone].tolist(), strict=True))
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("ranks", [1, 2])
def test_per_task_draws_every_task_alike_whatever_its_size(ranks: int) -> None:
    plan = plan_of(PerTask(epoch_length=7, batch_size=5), UNEQUAL, ranks=ranks)
    for epoch in range(3):
        for draws in epoch_of(plan, epoch, ranks):
            assert len(draws) == 7
            for draw in draws:
                assert draw.feeds.sum(axis=1).tolist() == [5, 5, 5]
                assert draw.feeds.sum(axis=0).tolist() == [1] * 15  # a row feeds the task it was drawn for
                assert UNEQUAL[:, draw.rows][draw.feeds].all()
                assert draw.counts == [5 * ranks] * 3


def test_per_task_row_counts_differ_by_one_at_most_at_any_time() -> None:
    plan = plan_of(PerTask(epoch_length=7, batch_size=8), UNEQUAL)
    counts = [Counter(dict.fromkeys(range(part.start, part.stop), 0)) for part in SIZES.values()]
    for epoch in range(4):  # 224 rows a task: 23 passes over the first, a part of one over the last
        for draw in epoch_of(plan, epoch)[0]:
            for task, count in enumerate(counts):
                count.update(draw.rows[draw.feeds[task]].tolist())
                assert max(count.values()) - min(count.values()) <= 1
    assert min(counts[0].values()) == 22


def test_per_task_streams_go_on_over_the_end_of_an_epoch() -> None:
    plan = plan_of(PerTask(epoch_length=3, batch_size=4), UNEQUAL)
    stream = [row for e in range(25) for draw in epoch_of(plan, e)[0] for row in draw.rows[draw.feeds[0]].tolist()]
    passes = [tuple(stream[start : start + 10]) for start in range(0, 300, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(passes)) == 30  # each shuffled anew
    long = plan_of(PerTask(epoch_length=75, batch_size=4), UNEQUAL)
    assert stream == [row for draw in epoch_of(long, 0)[0] for row in draw.rows[draw.feeds[0]].tolist()]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_per_task_epochs_are_optimizer_steps(accumulate: int) -> None:
    plan = plan_of(PerTask(epoch_length=5, batch_size=1), UNEQUAL, ranks=2, accumulate=accumulate)
    assert [len(draws) for draws in epoch_of(plan, 0, 2, accumulate)] == [5 * accumulate] * 2
    large = plan_of(PerTask(epoch_length=5, batch_size=accumulate), UNEQUAL, ranks=2)
    for epoch in range(3):
        parts = rows_of(plan, epoch, ranks=2)
        for step, expected in enumerate(rows_of(large, epoch, ranks=2)):
            window = parts[step * accumulate : (step + 1) * accumulate]
            assert sorted(row for part in window for row in part) == sorted(expected)


def test_per_task_shuffles_tasks_with_the_same_rows_apart() -> None:
    (draw,) = epoch_of(plan_of(PerTask(50, epoch_length=1), masks(50, slice(None), slice(None))), 0)[0]
    assert draw.rows[:50].tolist() != draw.rows[50:].tolist()


NAMES = r"tasks \['task0', 'task1', 'task2'\]"
REFUSED = {
    "batch size 0": ({"batch_size": 0}, "batch_size: must be at least 1, found 0"),
    "one batch size 0": ({"batch_size": {"task0": 0}}, "batch_size.task0: must be at least 1, found 0"),
    "period 0": ({"periods": {"task0": 0}}, "periods.task0: must be at least 1, found 0"),
    "no tasks a step": ({"tasks_per_step": 0}, "tasks_per_step: must be at least 1, found 0"),
    "too many tasks a step": ({"tasks_per_step": 4}, "tasks_per_step: must be at most the number of tasks, 3, found 4"),
    "epoch of 0": ({"epoch_length": 0}, "epoch_length: must be at least 1, found 0"),
    "temperature 0": ({"probabilities": "proportional", "temperature": 0.0}, "temperature: must be positive"),
    "temperature alone": ({"temperature": 2.0}, "temperature: is for probabilities 'proportional', found 2.0"),
    "sum": ({"probabilities": {"task0": 0.5, "task1": 0.6}}, "probabilities: must be positive and add up to 1, found"),
    "probability 0": ({"probabilities": {"task0": 1.0, "task1": 0.0}}, "probabilities: must be positive"),
    "missing task": ({"probabilities": {"task0": 0.5, "task1": 0.5}}, f"probabilities: must name each of the {NAMES}"),
    "unknown task": ({"periods": {"task7": 2}}, f"periods: must be among the {NAMES}, found .'task7'"),
    "no task in every step": ({"periods": {"task0": 2, "task1": 2, "task2": 3}}, "periods: must leave a task that"),
    "more than once a step": (
        {"tasks_per_step": 2, "probabilities": {"task0": 0.2, "task1": 0.2, "task2": 0.6}},
        r"probabilities: must be at most 1 / tasks_per_step, 0.5, .* found 0.6 for task 'task2'",
    ),
    "round robin by chance": ({"round_robin": True, "probabilities": "proportional"}, "round_robin: gives every task"),
    "periods of some": ({"periods": {"task0": 2}, "tasks_per_step": 1}, "periods: is for steps in which all tasks"),
    "sizes twice": (
        {"batch_size": {"task0": 1, "task1": 1, "task2": 1}, "probabilities": "proportional"},
        "batch_size: must be one number where probabilities divide",
    ),
    "a row twice": (
        {"batch_size": 11},
        "batch_size: a step must not draw a row of task 'task0' twice, found 11 rows a step .* of 10 labelled ones",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^data.sampling.{message}"):
        plan_of(PerTask(**options), UNEQUAL)


def test_a_row_twice_on_two_ranks_is_refused() -> None:
    plan_of(PerTask(5), UNEQUAL, ranks=2)
    with pytest.raises(ValueError, match=r"found 12 rows a step \(2 processes × 1 micro-batches"):
        plan_of(PerTask(6), UNEQUAL, ranks=2)
