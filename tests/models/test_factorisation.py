"""Weights of several tasks as products: by hand, at full rank, and of low rank."""

import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbones import MLP, BackboneBuilder, LeNet, TimmBackbone
from models.errors import ConfigurationError
from models.sharing import IndependentNetworks, TensorFactorisation
from models.sharing.factors import LAF, Product, RankChoice, TensorTrain, Tucker, along_tasks

TASKS = ["left", "right", "train"]
ROWS = {"left": torch.arange(4), "train": torch.tensor([1, 3])}
LENET = BackboneBuilder(partial(LeNet, widths=(4, 6), kernel_size=3, padding=1, features=5), (1, 8, 8))
STACK = BackboneBuilder(partial(MLP, hidden=(5, 4, 3)), (6,))
PRODUCTS: dict[str, type[Product]] = {"laf": LAF, "tt": TensorTrain, "tucker": Tucker}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factorised(kind: str, stack: Tensor, **ranks: Any) -> Tensor:
    """What a stack [*D, T] is after it was factorised."""
    choice = RankChoice(ranks, "weight")
    shared, vectors = along_tasks(stack, choice)
    product = PRODUCTS[kind](shared, choice)
    return torch.stack([product(vector) for vector in vectors], dim=-1).detach()


def build(backbone: BackboneBuilder = LENET, **options: Any) -> TensorFactorisation:
    torch.manual_seed(0)
    return TensorFactorisation(backbone, TASKS, **options).double()


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 7, 3), (1, 2, 9), (4, 3, 3, 3, 2), (1, 1, 8, 3)])
def test_full_rank_is_any_weights(kind: str, shape: tuple[int, ...]) -> None:
    stack = normal(*shape)
    torch.testing.assert_close(factorised(kind, stack), stack, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_weights_that_are_alike_are_met_and_can_go_apart(kind: str) -> None:
    """Their rank along the tasks is one: what is left of the tasks' vectors is drawn."""
    torch.manual_seed(0)
    stack = normal(4, 3, 2, 2, 1).expand(-1, -1, -1, -1, 3)
    shared, vectors = along_tasks(stack, RankChoice({}, "weight"))
    product = PRODUCTS[kind](shared, RankChoice({}, "weight"))
    for vector in vectors:
        torch.testing.assert_close(product(vector), stack[..., 0], rtol=0, atol=1e-10)
    assert torch.linalg.matrix_rank(vectors) == 3
    assert (vectors[:, 1:].abs() > 1e-3).all()
    start = [product(vector).detach() for vector in vectors]
    for own, towards in enumerate(normal(3, *start[0].shape, seed=1)):
        (product(vectors[own]) * towards).sum().backward()
    with torch.no_grad():
        for parameter in product.parameters():
            parameter -= 0.1 * parameter.grad
    moved = torch.stack([(product(v) - x).flatten() for v, x in zip(vectors, start, strict=True)])
    assert torch.linalg.matrix_rank(moved, rtol=1e-3) == 3


def test_laf_by_hand() -> None:
    """L = [[1, 2], [3, 4]] · [[1, 0, 1], [0, 1, 1]]."""
    laf = LAF(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), RankChoice({}, "weight"))
    columns = [laf(torch.tensor(s)).tolist() for s in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])]
    assert columns == [[1, 3], [2, 4], [3, 7]]


def test_tucker_by_hand() -> None:
    """W_t[o, i] = Σ_{a, b, r} C[a, b, r] U_1[o, a] U_2[i, b] s_t[r]."""
    product = Tucker(normal(4, 3, 2), RankChoice({"out": 2, "in": 0.6}, "weight"))
    core, (out, inner), s = product.core, product.factors, normal(2)
    assert (core.shape, out.shape, inner.shape) == ((2, 2, 2), (4, 2), (3, 2))
    torch.testing.assert_close(product(s), torch.einsum("abr,oa,ib,r->oi", core, out, inner, s))


def test_tensor_train_by_hand() -> None:
    """W_t[o, i, h] = Σ_{a, b, r} G_1[o, a] G_2[a, i, b] G_3[b, h, r] s_t[r]."""
    product = TensorTrain(normal(4, 3, 3, 2), RankChoice({"out": 3, "in": 5}, "weight"))
    first, second, third = product.cores
    assert (first.shape, second.shape, third.shape) == ((4, 3), (3, 3, 5), (5, 3, 2))
    s = normal(2)
    torch.testing.assert_close(product(s), torch.einsum("oa,aib,bhr,r->oih", first, second, third, s))


def test_start_of_low_rank_is_the_nearest_product() -> None:
    """By the singular values that are left out: exactly along the tasks, within √N of the best for all modes."""
    stack = normal(6, 5, 4)
    values = torch.linalg.svdvals(stack.flatten(end_dim=1))
    for kind in PRODUCTS:
        error = (factorised(kind, stack, tasks=2) - stack).norm()
        torch.testing.assert_close(error, values[2:].norm())
    tails = [torch.linalg.svdvals(stack.movedim(number, 0).flatten(1))[3:].square().sum() for number in range(3)]
    error = (factorised("tucker", stack, out=3, tasks=3, **{"in": 3}) - stack).square().sum()
    assert max(tails) <= error <= sum(tails)


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("backbone", [LENET, STACK], ids=["lenet", "mlp"])
def test_networks_of_full_rank_are_independent_ones(kind: str, backbone: BackboneBuilder) -> None:
    torch.manual_seed(0)
    one, other = TensorFactorisation(backbone, TASKS, kind=kind), build_independent(backbone)
    x = torch.randn(4, *backbone.input_shape)
    expected = other(x, ROWS)
    for task, features in one(x, ROWS).items():
        assert len(features) == len(one.channels[task])
        for stage, feature in enumerate(features):
            torch.testing.assert_close(feature, expected[task][stage], rtol=0, atol=1e-5)


def build_independent(backbone: BackboneBuilder) -> IndependentNetworks:
    torch.manual_seed(0)
    return IndependentNetworks(backbone, TASKS)


def test_stages_below_are_shared_and_layers_are_by_depth() -> None:
    resnet = BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32))
    sharing = build(resnet, from_stage=2, ranks={"out": 0.5})
    own = {name for name, _ in sharing.named_parameters() if "parts." in name or "vectors." in name}
    assert {id(p) for t in TASKS for p in sharing.task_parameters(t)} == {
        id(p) for name, p in sharing.named_parameters() if name in own
    }
    assert all(p.ndim <= 1 for task in TASKS for p in sharing.task_parameters(task))
    groups, whole = sharing.layer_groups(), resnet()
    assert len(groups) == len([*whole.layer_groups()])
    factors = [group for group, names in groups.items() if any(name.startswith("products.") for name in names)]
    assert factors == [*groups][-len(factors) :]
    for names in groups.values():
        assert {name.split(".")[2] for name in names if name.startswith("vectors.")} == {
            name.split(".")[1] for name in names if name.startswith("products.")
        }


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"from_stage": 3}, "model.sharing.from_stage: must be a stage from 1 to 2 of LeNet, found 3"),
        ({"from_stage": -1}, "model.sharing.from_stage: must be a stage from 1 to 2 of LeNet, found -1"),
        ({"ranks": {"in": 7}}, "model.sharing.ranks.in: must be at most 1, as layers.0.0.weight has it, found 7"),
        (
            {"ranks": {"in": 5}, "from_stage": 1},
            "model.sharing.ranks.in: must be at most 4, as layers.1.0.weight has it, found 5",
        ),
        ({"ranks": {"tasks": 4}}, "model.sharing.ranks.tasks: must be at most 3, as layers.0.0.weight has it, found 4"),
        ({"ranks": {"out": 0}}, "model.sharing.ranks.out: must be at least 1, or a share of the dimension up to 1.0"),
        ({"ranks": {"out": 1.5}}, "model.sharing.ranks.out: must be at least 1, or a share of the dimension up to 1.0"),
        ({"ranks": {"width": 1}}, "model.sharing.ranks: must be of out, in, kernel, tasks, found width"),
        (
            {"kind": "laf", "ranks": {"out": 1, "tasks": 2}},
            "model.sharing.ranks: must be of tasks alone where the kind is laf, found out",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}"):
        build(**options)


def test_stages_without_a_weight_are_refused() -> None:
    resnet = BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32))
    with pytest.raises(ConfigurationError, match=r"^model\.sharing\.from_stage: must be one with weights at or above"):
        build(resnet, from_stage=len(resnet().stages) - 1)
