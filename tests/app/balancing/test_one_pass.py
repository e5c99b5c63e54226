"""Gramians from one pass over disjoint rows: what the Jacobian gives, and where it is not to be had."""

import pytest
import torch
from layered import BATCH, SOME, TASKS, WEIGHTS, always, check, images, losses, network, reference, results, trained
from torch import Tensor, nn

from app.balancing import MicroBatch, Parameters, Step
from app.balancing.engine import row_gramians
from app.balancing.engine.gradients import gradients_of
from app.balancing.engine.row_gramians import RowGramians
from app.balancing.engine.task_gradients import TaskGradients
from models.sharing.statistics import StatisticsByTask

OWN = [torch.tensor([0, 1]), torch.tensor([2, 3, 5]), torch.tensor([4])]
THREE = tuple(range(TASKS))
IN_ORDER = [torch.tensor([0, 1]), torch.tensor([2, 3, 4]), torch.tensor([5])]


def one_pass(net: nn.Module, each: list[Tensor], rows: list[Tensor], batch: int = BATCH) -> RowGramians:
    found = RowGramians(trained(net), len(each))
    assert found.begin(each, rows, batch, tuple(range(len(each))))
    found.take(torch.autograd.grad(torch.stack(each).sum(), found.inputs, retain_graph=True))
    return found


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("rows", [OWN, IN_ORDER, IN_ORDER[:2]], ids=["own", "in order", "rows of no task"])
@pytest.mark.parametrize("name", ["group norm", "frozen statistics", "lenet", "small maps", "vit"])
def test_one_pass_gives_every_task(
    name: str, rows: list[Tensor], by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(monkeypatch, by_rows)
    net = network(name)
    if name in ("group norm", "frozen statistics"):
        net.depthwise.requires_grad_(False)
    each = losses(net(images()), rows)
    check(results(one_pass(net, each, rows), WEIGHTS[: len(each)]), reference(net, each))


@pytest.mark.parametrize("by_rows", [True, False])
def test_one_pass_through_statistics_by_task(by_rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, by_rows)
    net = network("residual")
    net.depthwise.requires_grad_(False)
    with StatisticsByTask([2, 3, 1]):
        features = net(images())
    each = losses(features, IN_ORDER)
    check(results(one_pass(net, each, IN_ORDER), WEIGHTS), reference(net, each))


def test_one_pass_is_not_enough() -> None:
    mixing, unknown, apart = network("residual"), network("group norm"), network("lenet")
    mixing.depthwise.requires_grad_(False)
    for net, rows, enough in ((mixing, OWN, False), (unknown, OWN, False), (apart, SOME, False), (apart, OWN, True)):
        each = losses(net(images()), rows)
        assert RowGramians(trained(net), TASKS).begin(each, rows, BATCH, THREE) is enough


def test_mixing_that_begins_later_is_seen() -> None:
    net = network("frozen statistics")
    net.depthwise.requires_grad_(False)
    found = RowGramians(trained(net), TASKS)
    for training in (False, True, False):
        net.norm.train(training)
        assert found.begin(losses(net(images()), OWN), OWN, BATCH, THREE) is not training


class Averaged(nn.Module):
    """Adds the batch's mean: no normalisation shows that rows mix."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.below(x)
        return self.above(x + x.mean(0))


def test_mixing_without_a_norm_is_tried() -> None:
    torch.manual_seed(0)
    net, x = Averaged().double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = RowGramians(trained(net), TASKS)
    assert not found.begin(losses(net(x), OWN), OWN, BATCH, THREE)


class Leaking(nn.Module):
    """Adds one row of the batch to another."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("mix", torch.eye(BATCH))
        self.mix[target, source] = 1

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.mix @ self.below(x))


@pytest.mark.parametrize("target", [0, 2, 4])
@pytest.mark.parametrize("source", [0, 2, 4])
def test_mixing_from_any_task_into_any_other_is_tried(source: int, target: int) -> None:
    """Rows 0, 2 and 4 are of one task each: the loss of `target`'s moves `source`'s rows."""
    torch.manual_seed(0)
    net, x = Leaking(source, target).double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = RowGramians(trained(net), TASKS)
    for _ in range(2):
        assert found.begin(losses(net(x), OWN), OWN, BATCH, THREE) is (source == target)


def take(found: TaskGradients, net: nn.Module, x: Tensor, present: tuple[int, ...]) -> None:
    """Take a step's gradients, in which the first rows of `OWN` are those of the tasks that are present."""
    rows = dict(zip(present, OWN, strict=False))
    micro_batch = MicroBatch(Step(0, 0, torch.tensor(present)), 1, None, rows, BATCH)
    each = dict(zip(present, losses(net(x), [*rows.values()]), strict=True))
    found.take(each, micro_batch, Parameters(trained(net), [[], [], []], []))


def check_taken(found: TaskGradients, net: nn.Module, x: Tensor, tasks: int) -> None:
    gramian = found.gramian()
    found.combine(WEIGHTS[:tasks])
    ours = gramian, [parameter.grad for parameter in trained(net)]
    check(ours, reference(net, losses(net(x), OWN[:tasks])))


@pytest.mark.parametrize(("source", "target"), [(0, 2), (2, 0), (4, 2)])
def test_mixing_changes_no_update(source: int, target: int) -> None:
    torch.manual_seed(0)
    net, x = Leaking(source, target).double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = TaskGradients()
    take(found, net, x, THREE)
    check_taken(found, net, x, TASKS)


def test_a_proof_is_of_the_tasks_that_were_there() -> None:
    """The trunk lets a row of task 1 read one of task 2's: {0, 2} and {0, 1} mix nothing, {1, 2} does."""
    torch.manual_seed(0)
    net, x = Leaking(0, 0).double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = TaskGradients()
    for present in ((0, 2), (0, 1), (1, 2), (0, 2)):
        net.mix[0, 2] = present == (1, 2)
        take(found, net, x, present)
        assert isinstance(found._taken, RowGramians) is (present != (1, 2))
        check_taken(found, net, x, 2)
        found.clear()


def test_a_layer_that_not_all_tasks_reach_leaves_one_pass_enough() -> None:
    torch.manual_seed(0)
    below, above = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    net, x = nn.Sequential(below, above), torch.randn(BATCH, 4, dtype=torch.float64)
    for lower in range(TASKS):
        low = below(x)
        each = losses(above(low), OWN)
        each[lower] = losses(low, OWN)[lower]
        check(results(one_pass(net, each, OWN), WEIGHTS), reference(net, each))


@pytest.mark.parametrize("still", range(TASKS))
def test_a_task_that_moves_nothing_proves_nothing(still: int) -> None:
    """The losses of `Leaking` alone, of which that of row 0's task moves the rows of row 2's."""
    torch.manual_seed(0)
    net, x = Leaking(2, 0).double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = RowGramians(trained(net), TASKS)
    each = losses(net(x), OWN)
    found.begin([(task != still) * loss for task, loss in enumerate(each)], OWN, BATCH, THREE)
    assert not found.begin([1 * loss for loss in each], OWN, BATCH, THREE)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item a backward pass that tries whether rows mix."""
    found: list[int] = []

    def counted(*args: object, **kwargs: object) -> object:
        found.append(1)
        return gradients_of(*args, **kwargs)

    monkeypatch.setattr(row_gramians, "gradients_of", counted)
    return found


def test_a_proof_is_not_asked_for_twice(passes: list[int]) -> None:
    net = network("lenet")
    found = RowGramians(trained(net), TASKS)
    for rows, expected in ((OWN, TASKS), (OWN, TASKS), (IN_ORDER, TASKS)):
        assert found.begin(losses(net(images()), rows), rows, BATCH, THREE)
        assert len(passes) == expected


def test_a_proof_outlasts_a_step_of_fewer_tasks(passes: list[int]) -> None:
    net, found = network("lenet"), TaskGradients()
    for present, expected in (((0, 1, 2), 3), ((0, 2), 5), ((0, 1, 2), 5), ((0, 2), 5)):
        take(found, net, images(), present)
        assert isinstance(found._taken, RowGramians)
        assert len(passes) == expected
        found.clear()


def test_a_first_task_that_moves_nothing_proves_nothing() -> None:
    torch.manual_seed(0)
    net, x = Averaged().double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = RowGramians(trained(net), TASKS)
    each = losses(net(x), OWN)
    assert not found.begin([0 * each[0], *each[1:]], OWN, BATCH, THREE)
    assert not found.begin(each, OWN, BATCH, THREE)
