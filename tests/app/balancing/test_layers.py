"""Gramians layer by layer: what the Jacobian gives, from fewer numbers."""

import pytest
import torch
from layered import (
    ALL,
    BATCH,
    SOME,
    TASKS,
    WEIGHTS,
    always,
    check,
    images,
    losses,
    network,
    reference,
    results,
    take,
    trained,
)
from torch import Tensor, nn

from app.balancing.engine.costs import cost_by_rows, cost_by_weights
from app.balancing.engine.graph import Graph, products
from app.balancing.engine.layer_gramians import LayerGramians


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
