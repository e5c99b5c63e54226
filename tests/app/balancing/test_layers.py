"""Gramians layer by layer and from one pass: what the Jacobian gives, from fewer numbers."""

from collections.abc import Callable, Sequence

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.balancing import MicroBatch, Parameters, Step
from app.balancing.engine import layer_gramians, row_gramians
from app.balancing.engine.costs import cost_by_rows, cost_by_weights
from app.balancing.engine.gradients import gradients_of
from app.balancing.engine.graph import Graph, products
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.layer_gramians import LayerGramians
from app.balancing.engine.row_gramians import RowGramians
from app.balancing.engine.task_gradients import TaskGradients
from models.backbones import LeNet
from models.sharing.statistics import StatisticsByTask

TASKS, BATCH = 3, 6
WEIGHTS = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)


class Residual(nn.Module):
    """Strides, padding, dilation, a grouped and a circular convolution, biases, in-place activations, a second use."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), bias=False)
        self.norm = norm(4)
        self.first = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.same = nn.Conv2d(4, 4, (2, 3), padding="same")
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        y = F.relu(self.first(x), inplace=True)
        y = self.same(self.circular(self.depthwise(y)))
        y += x
        return self.last(F.relu(y, inplace=True).mean((2, 3)))


class Odd(nn.Module):
    """What only looks like a plain layer."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(12, 12)
        self.tied = nn.Linear(12, 12)
        self.square = nn.Parameter(torch.randn(12, 12))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(12, 12))
        self.halved = nn.Linear(12, 12)
        self.frozen = nn.Linear(12, 12).requires_grad_(False)
        self.unused = nn.Linear(12, 12)
        self.plain = nn.Linear(12, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.tanh(self.twice(x.flatten(1)[:, :12])))
        x = torch.addmm(self.tied.bias, self.tied(x).sin(), self.tied.weight)
        x = self.normed(torch.addmm(self.frozen.bias, x, self.square))
        x = torch.addmm(self.halved.bias, self.frozen(x), self.halved.weight.T, alpha=0.5)
        return self.plain(x)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    builders: dict[str, Callable[[], nn.Module]] = {
        "residual": Residual,
        "odd": Odd,
        "group norm": lambda: Residual(lambda channels: nn.GroupNorm(2, channels)),
        "frozen statistics": Residual,
        "lenet": lambda: nn.Sequential(*LeNet((3, 16, 16), widths=(3, 4), features=5).stages),
        "small maps": lambda: nn.Sequential(
            nn.AvgPool2d(8), nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, padding=1),
            nn.Conv2d(5, 4, (2, 3), padding=1), nn.Conv2d(4, 4, 2, padding=2, dilation=3), nn.Flatten(),
        ),
        "vit": lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=0,
            init_values=None,
        ),
    }  # fmt: skip
    net = builders[name]().double()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d) and name == "frozen statistics":
            nn.init.uniform_(norm.running_mean)
            norm.eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


def losses(features: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    heads = [torch.randn(features.shape[1], dtype=torch.float64, generator=draw) for _ in rows]
    return [(features[chosen] @ head).square().mean() for head, chosen in zip(heads, rows, strict=True)]


def images() -> Tensor:
    return torch.randn(BATCH, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(net: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def results(found: Jacobian | LayerGramians | RowGramians, weights: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    parameters = found.inputs if isinstance(found, Jacobian) else found.parameters
    for parameter in parameters:
        parameter.grad = None
    gramian = found.gramian()
    found.combine(weights)
    return gramian, [parameter.grad for parameter in parameters]


def take(found: Jacobian | LayerGramians, each: Sequence[Tensor]) -> None:
    for task, loss in enumerate(each):
        gradients = torch.autograd.grad(loss, found.inputs, retain_graph=True, allow_unused=True)
        found.take(task, gradients)


def reference(net: nn.Module, each: Sequence[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
    jacobian = Jacobian(trained(net), len(each))
    take(jacobian, each)
    return results(jacobian, WEIGHTS[: len(each)])


def check(found: tuple[Tensor, list[Tensor | None]], expected: tuple[Tensor, list[Tensor | None]]) -> None:
    scale = expected[0].abs().max()
    assert (found[0] - expected[0]).abs().max() <= 1e-12 * scale
    assert len(found[1]) == len(expected[1])
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11 * float(scale) ** 0.5)


def always(monkeypatch: pytest.MonkeyPatch, rows: bool) -> None:
    for module, name in ((layer_gramians, "rows_pay_pass_by_pass"), (row_gramians, "rows_pay_in_one_pass")):
        monkeypatch.setattr(module, name, lambda layer, tasks: rows)


ALL = [torch.arange(BATCH)] * TASKS
SOME = [torch.tensor([0, 3, 5]), torch.arange(BATCH), torch.tensor([1])]


@pytest.mark.parametrize("rows", [ALL, SOME, ALL[:1]], ids=["all rows", "some rows", "one task"])
@pytest.mark.parametrize("name", ["residual", "odd", "lenet", "small maps", "vit"])
def test_layers_give_what_the_jacobian_gives(name: str, rows: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, rows=True)
    net = network(name)
    each = losses(net(images()), rows)
    found = LayerGramians(trained(net), len(each))
    found.begin(each)
    assert found.layers
    take(found, each)
    check(results(found, WEIGHTS[: len(each)]), reference(net, each))


def test_a_layer_that_one_task_reaches_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, rows=True)
    torch.manual_seed(0)
    net = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)).double()
    x = net[0](torch.ones(2, 4, dtype=torch.float64))
    each = [x.square().sum(), net[1](x).square().sum()]
    found = LayerGramians(trained(net), 2)
    found.begin(each)
    assert [id(parameter) for parameter in found.rest.inputs] == [id(parameter) for parameter in net[2].parameters()]
    take(found, each)
    gramian, gradients = results(found, WEIGHTS[:2])
    assert [gradient is None for gradient in gradients] == [False] * 4 + [True] * 2
    check((gramian, gradients), reference(net, each))


def test_a_second_step_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, rows=True)
    net, x = network("residual"), images()
    found = LayerGramians(trained(net), TASKS)
    for inputs in (x, 2 * x):
        each = losses(net(inputs), ALL)
        found.begin(each)
        take(found, each)
        ours = results(found, WEIGHTS)
        found.clear()
        check(ours, reference(net, each))


def test_only_plain_layers_are_taken_for_products() -> None:
    net = network("odd")
    each = losses(net(images()), ALL)
    assert [product.weight is net.plain.weight for product in products(Graph(each), trained(net))] == [True]
    net = network("residual")
    each = losses(net(images()), ALL)
    found = {id(product.weight): product.positions for product in products(Graph(each), trained(net))}
    weights = {
        layer: getattr(net, layer).weight for layer in ("stem", "first", "depthwise", "circular", "same", "last")
    }
    assert {layer: found.get(id(weight)) for layer, weight in weights.items()} == {
        "stem": BATCH * 8 * 19, "first": BATCH * 8 * 19, "depthwise": None, "circular": BATCH * 8 * 19,
        "same": BATCH * 8 * 19, "last": BATCH,
    }  # fmt: skip


def test_what_only_meets_padding_costs_nothing() -> None:
    net = network("small maps")
    found = products(Graph(losses(net(images()), ALL)), trained(net))
    assert [product.fan_in for product in found[:2]] == [3 * 2 * 2, 4]


def test_rows_are_chosen_where_they_are_few() -> None:
    late, early = (512 * 9, 512), (64 * 9, 64)  # the last and the first 3×3 convolution of a ResNet-18
    assert cost_by_rows(32, *late, tasks=8) < 0.2 * cost_by_weights(32, *late, tasks=8)
    assert cost_by_rows(2048, *early, tasks=8) > 2 * cost_by_weights(2048, *early, tasks=8)
    # A A^T, K D_t twice over, all D_s with all K D_t, one gradient: by hand for R = 2, n = 3, m = 5, T = 2
    moved = 4 + 4 * 6 + 5 * 2 * 10 + 15
    assert cost_by_rows(2, 3, 5, tasks=2) == 12 + 40 + 40 + 30 + 20 * moved


OWN = [torch.tensor([0, 1]), torch.tensor([2, 3, 5]), torch.tensor([4])]
IN_ORDER = [torch.tensor([0, 1]), torch.tensor([2, 3, 4]), torch.tensor([5])]


def one_pass(net: nn.Module, each: list[Tensor], rows: list[Tensor], batch: int = BATCH) -> RowGramians:
    found = RowGramians(trained(net), len(each))
    assert found.begin(each, rows, batch)
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
        assert RowGramians(trained(net), TASKS).begin(each, rows, BATCH) is enough


def test_mixing_that_begins_later_is_seen() -> None:
    net = network("frozen statistics")
    net.depthwise.requires_grad_(False)
    found = RowGramians(trained(net), TASKS)
    for training in (False, True, False):
        net.norm.train(training)
        assert found.begin(losses(net(images()), OWN), OWN, BATCH) is not training


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
    assert not found.begin(losses(net(x), OWN), OWN, BATCH)


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
        assert found.begin(losses(net(x), OWN), OWN, BATCH) is (source == target)


@pytest.mark.parametrize(("source", "target"), [(0, 2), (2, 0), (4, 2)])
def test_mixing_changes_no_update(source: int, target: int) -> None:
    torch.manual_seed(0)
    net, x = Leaking(source, target).double(), torch.randn(BATCH, 4, dtype=torch.float64)
    micro_batch = MicroBatch(Step(0, 0, torch.arange(TASKS)), 1, None, dict(enumerate(OWN)), BATCH)
    found = TaskGradients()
    found.take(dict(enumerate(losses(net(x), OWN))), micro_batch, Parameters(trained(net), [[], [], []]))
    gramian = found.gramian()
    found.combine(WEIGHTS)
    check((gramian, [parameter.grad for parameter in trained(net)]), reference(net, losses(net(x), OWN)))


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
    found.begin([(task != still) * loss for task, loss in enumerate(each)], OWN, BATCH)
    assert not found.begin([1 * loss for loss in each], OWN, BATCH)


def test_a_proof_is_not_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def counted(*args: object, **kwargs: object) -> object:
        passes.append(1)
        return gradients_of(*args, **kwargs)

    monkeypatch.setattr(row_gramians, "gradients_of", counted)
    net = network("lenet")
    found = RowGramians(trained(net), TASKS)
    for rows, expected in ((OWN, TASKS), (OWN, TASKS), (IN_ORDER, TASKS)):
        assert found.begin(losses(net(images()), rows), rows, BATCH)
        assert len(passes) == expected


def test_a_first_task_that_moves_nothing_proves_nothing() -> None:
    torch.manual_seed(0)
    net, x = Averaged().double(), torch.randn(BATCH, 4, dtype=torch.float64)
    found = RowGramians(trained(net), TASKS)
    each = losses(net(x), OWN)
    assert not found.begin([0 * each[0], *each[1:]], OWN, BATCH)
    assert not found.begin(each, OWN, BATCH)
