"""What each sharing scheme is: its formula by hand, and what it is equal to at the ends of its range."""

import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbones import MLP, BackboneBuilder, LateFusion, LeNet, TimmBackbone
from models.errors import ConfigurationError
from models.sharing import (
    CGC,
    PLE,
    Conditioned,
    CrossStitch,
    HardSharing,
    IndependentNetworks,
    LowRankAdapters,
    MMoE,
    Sharing,
    SoftSharing,
    TaskNormalization,
)

TASKS = ["left", "right", "train"]
ROWS = {"left": torch.arange(4), "train": torch.tensor([1, 3])}
LENET = BackboneBuilder(partial(LeNet, widths=(4, 6), kernel_size=3, padding=1, features=5), (1, 8, 8))
STACK = BackboneBuilder(partial(MLP, hidden=(5, 4, 3)), (6,))


def build(scheme: Callable[..., Sharing], backbone: BackboneBuilder = LENET, **options: Any) -> Sharing:
    torch.manual_seed(0)
    return scheme(backbone, TASKS, **options).double()


def inputs(backbone: BackboneBuilder = LENET) -> Tensor:
    return torch.randn(4, *backbone.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def check_equal(one: Sharing, other: Sharing, backbone: BackboneBuilder = LENET) -> None:
    x = inputs(backbone)
    expected = other(x, ROWS)
    for task, features in one(x, ROWS).items():
        assert len(features) == len(expected[task]) == len(one.channels[task])
        for stage in range(len(features)):
            torch.testing.assert_close(features[stage], expected[task][stage], rtol=0, atol=1e-12)


def test_cross_stitch_of_ones_and_zeros_is_independent_networks() -> None:
    check_equal(build(CrossStitch, same=1.0), build(IndependentNetworks))


@pytest.mark.parametrize("by_channel", [False, True])
def test_cross_stitch_by_hand(by_channel: bool) -> None:
    sharing = build(CrossStitch, STACK, by_channel=by_channel)
    assert list(sharing.units) == ["0", "1", "2"]
    for unit in sharing.units.values():
        for task in TASKS:
            values = unit.alpha[task].values
            assert values.shape == (3, values.shape[1])
            assert values.sum(dim=0).detach().tolist() == pytest.approx([1.0] * values.shape[1])
            assert values[TASKS.index(task)].unique().item() == pytest.approx(0.9)
            torch.nn.init.normal_(values)
    x = dict.fromkeys(TASKS, inputs(STACK))
    features = sharing(inputs(STACK), ROWS)
    for stage, unit in enumerate(sharing.units.values()):
        seen = {task: sharing.networks[task].stages[stage](x[task]) for task in TASKS}
        x = {t: sum(unit.alpha[t].values[i] * seen[s] for i, s in enumerate(TASKS)) for t in TASKS}
        for task, rows in ROWS.items():
            torch.testing.assert_close(features[task][stage], x[task][rows])


def test_cross_stitch_has_no_unit_after_a_stage_without_parameters() -> None:
    network = BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32))
    sharing = build(CrossStitch, network)
    assert list(sharing.units) == [str(stage) for stage in range(len(network().stages) - 1)]


def test_an_expert_alone_is_hard_sharing() -> None:
    check_equal(build(MMoE, experts=1), build(HardSharing))


def test_one_gate_is_many_that_are_alike() -> None:
    one, many = build(MMoE, one_gate=True), build(MMoE)
    for task in TASKS:
        many.gates[task].load_state_dict(one.gate.state_dict())
    many.experts.load_state_dict(one.experts.state_dict())
    check_equal(one, many)


@pytest.mark.parametrize("from_stage", [0, 1])
def test_mmoe_by_hand(from_stage: int) -> None:
    """f^t(x) = Σ_i softmax(W_t x)_i f_i(x)."""
    sharing, x = build(MMoE, STACK, experts=3, from_stage=from_stage), inputs(STACK)
    below = sharing.below(x)[-1] if from_stage else x
    for task, features in sharing(x, ROWS).items():
        rows = below[ROWS[task]]
        weights = (rows @ sharing.gates[task].linear.weight.T).exp()
        weights = weights / weights.sum(dim=1, keepdim=True)
        expected = sum(weights[:, i : i + 1] * expert(rows)[-1] for i, expert in enumerate(sharing.experts.each))
        torch.testing.assert_close(features[-1], expected)
        assert len(features) == 3
        assert [feature.shape for feature in features[1:]] == [(len(rows), 4), (len(rows), 3)]


def test_experts_on_a_whole_backbone() -> None:
    sharing, x = build(MMoE, hidden=[7, 2]), inputs()
    assert sharing.channels["left"] == [4, 6, 5, 7, 2]
    trunk = sharing.below(x)
    features = sharing(x, ROWS)["train"]
    torch.testing.assert_close(features[2], trunk[2][[1, 3]])
    assert features[-1].shape == (2, 2)
    drawn = [name for name, _ in sharing.named_parameters() if name.startswith("experts.")]
    assert sharing.layer_groups()["sharing"] == drawn  # which is trained with the heads


def test_progressive_extraction_of_one_level_is_customised_gate_control() -> None:
    one, other = build(PLE, shared=2, own=2), build(CGC, shared=2, own=2)
    one.load_state_dict({f"levels.0.{name}": x for name, x in other.state_dict().items()})
    check_equal(one, other)


def test_progressive_extraction_by_hand() -> None:
    """Of two levels: the shared experts of the second read what the shared gate makes of all of the first."""
    sharing, x = build(PLE, STACK, levels=[0, 2]), inputs(STACK)
    first, second = sharing.levels
    seen = {t: first.own[t].each[0](x)[-1] for t in TASKS}
    everyone = torch.stack([*seen.values(), shared := first.shared.each[0](x)[-1]], dim=1)
    path = (first.gate(x)[..., None] * everyone).sum(dim=1)
    above = second.shared.each[0](path)[-1]
    features = sharing(x, ROWS)
    for task, rows in ROWS.items():
        mine = (first.gates[task](x)[..., None] * torch.stack([seen[task], shared], dim=1)).sum(dim=1)[rows]
        torch.testing.assert_close(features[task][1], mine)
        own = second.own[task].each[0](mine)[-1]
        expected = (second.gates[task](mine)[..., None] * torch.stack([own, above[rows]], dim=1)).sum(dim=1)
        torch.testing.assert_close(features[task][2], expected)
    assert second.gate is None


@pytest.mark.parametrize("by", ["film", "add"])
@pytest.mark.parametrize("descriptor", ["one_hot", "learned", {"left": [1, 2], "right": [0, 1], "train": [3, 1]}])
def test_conditions_begin_with_hard_sharing(by: str, descriptor: Any) -> None:
    sharing = build(Conditioned, by=by, after=["input", 0, -1], descriptor=descriptor)
    check_equal(sharing, build(HardSharing))


def test_condition_by_hand() -> None:
    """With h ⊙ (1 + V_γ z_t) + V_β z_t, after the second stage."""
    given = {"left": [1.0, 2.0], "right": [0.0, 1.0], "train": [3.0, 1.0]}
    sharing, x = build(Conditioned, LENET, after=[1], descriptor=given), inputs()
    scales, shifts = torch.nn.init.normal_(sharing.changes["1"].linear.weight).view(2, 6, 2)
    first, second, third = sharing.backbone.stages
    for task, features in sharing(x, ROWS).items():
        z, lower = torch.tensor(given[task], dtype=torch.float64), first(x[ROWS[task]])
        changed = second(lower) * (1 + scales @ z)[:, None, None] + (shifts @ z)[:, None, None]
        torch.testing.assert_close(list(features), [lower, changed, third(changed)])


def test_what_is_added_after_a_linear_layer_is_a_concatenation_below_it() -> None:
    sharing = build(Conditioned, LENET, by="add", after=[-1], descriptor="learned", width=3)
    weight = torch.nn.init.normal_(sharing.changes["2"].linear.weight)
    linear, x = sharing.backbone.stages[2][1], inputs()
    sharing.backbone.layers[2][2] = torch.nn.Identity()
    lower = sharing.backbone(x)[1].flatten(1)
    joined = torch.cat([linear.weight, weight], dim=1)
    for task, features in sharing(x, ROWS).items():
        z = sharing.described[task].values.expand(len(ROWS[task]), -1)
        expected = torch.cat([lower[ROWS[task]], z], dim=1) @ joined.T + linear.bias
        torch.testing.assert_close(features[-1], expected)


@pytest.mark.parametrize("shared", [True, False])
def test_adapters_begin_with_hard_sharing(shared: bool) -> None:
    vit = BackboneBuilder(partial(TimmBackbone, name="test_vit"), (3, 32, 32))
    sharing, hard = build(LowRankAdapters, vit, shared=shared), build(HardSharing, vit)
    check_equal(sharing, hard, vit)
    trunk = [name for name, _ in sharing.named_parameters() if name.startswith("backbone.")]
    assert trunk == [name for name, _ in hard.named_parameters()]
    assert len(sharing.own["left"]) == 6 * 4  # qkv, projection and two of the MLP, in each block


def test_adapters_by_hand() -> None:
    """Wx + b + B_t A_t x + B A x, also of a copy."""
    sharing, x = build(LowRankAdapters, STACK, rank=2), inputs(STACK)
    for module in [*sharing.own.values(), sharing.shared]:
        for adapter in module:
            torch.nn.init.normal_(adapter.up.weight)
    for scheme in (sharing, deepcopy(sharing)):
        for task, features in scheme(x, ROWS).items():
            h = x[ROWS[task]]
            for number, (_, layer, *_rest) in enumerate(scheme.backbone.layers):
                own, shared = scheme.own[task][number], scheme.shared[number]
                weight = layer.weight + own.up.weight @ own.down.weight + shared.up.weight @ shared.down.weight
                h = (h @ weight.T + layer.bias).relu()
                torch.testing.assert_close(features[number], h)
        torch.nn.init.zeros_(sharing.shared[0].up.weight)  # the copy has its own


def test_every_task_is_normalised_by_itself() -> None:
    backbone = BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32))
    sharing, alone = build(TaskNormalization, backbone), {task: build(HardSharing, backbone) for task in ROWS}
    for _ in range(2):
        features = sharing(inputs(backbone), ROWS)
        for task, rows in ROWS.items():
            expected = alone[task](inputs(backbone)[rows], {task: torch.arange(len(rows))})[task]
            torch.testing.assert_close(list(features[task]), list(expected))
    for task in ROWS:
        own = {name: x for name, x in sharing.state_dict().items() if f".each.{task}.running" in name}
        theirs = alone[task].state_dict()
        assert own
        for name, x in own.items():
            torch.testing.assert_close(x, theirs[name.replace(f".each.{task}", "")])
    untouched = [x for name, x in sharing.state_dict().items() if ".each.right.num_batches" in name]
    assert not any(untouched)


@pytest.mark.parametrize("scheme", [MMoE, CGC, PLE, CrossStitch])
def test_several_modalities(scheme: type[Sharing]) -> None:
    fusion = partial(LateFusion, backbones={"image": partial(LeNet, kernel_size=3, widths=(2,)), "row": MLP})
    backbone = BackboneBuilder(fusion, {"image": (1, 8, 8), "row": (3,)})
    sharing = scheme(backbone, TASKS)
    features = sharing({"image": torch.randn(4, 1, 8, 8), "row": torch.randn(4, 3)}, ROWS)
    assert features["train"][-1].shape == (2, sharing.channels["train"][-1])


@pytest.mark.parametrize("scheme", [MMoE, partial(MMoE, one_gate=True), CGC, partial(PLE, levels=[0, 2])])
def test_weights_of_a_gate_sum_to_one(scheme: Callable[..., Sharing]) -> None:
    from models.sharing.experts import Gate

    sharing, seen = build(scheme), []
    for module in sharing.modules():
        if isinstance(module, Gate):
            module.register_forward_hook(lambda *call: seen.append(call[-1]))
    sharing(inputs(), ROWS)
    assert seen
    for weights in seen:
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights), dtype=torch.float64))


def test_penalty_of_distance_is_over_all_pairs() -> None:
    sharing = build(SoftSharing, STACK, strength=0.3)
    flat = [torch.cat([p.flatten() for p in network.parameters()]) for network in sharing.networks.values()]
    pairs = sum((flat[i] - flat[j]).square().sum() for i in range(3) for j in range(i))
    torch.testing.assert_close(sharing.penalty(), 0.3 * pairs)


def test_trace_norm_is_of_the_matrices_of_all_tasks() -> None:
    sharing = build(SoftSharing, LENET, strength=0.3, norm="trace")
    own = [[p for p in network.parameters() if p.ndim > 1] for network in sharing.networks.values()]
    stacks = [torch.stack([each.flatten() for each in of]) for of in zip(*own, strict=True)]
    expected = sum(torch.linalg.svdvals(stack).sum() for stack in stacks)
    torch.testing.assert_close(sharing.penalty(), 0.3 * expected)


def test_no_penalty_is_independent_networks() -> None:
    sharing = build(SoftSharing, strength=0.0)
    check_equal(sharing, build(IndependentNetworks))
    assert sharing.penalty() == 0


@pytest.mark.parametrize(
    ("scheme", "options", "line"),
    [
        (MMoE, {"experts": 0}, "model.sharing.experts: must be at least 1, found 0"),
        (MMoE, {"from_stage": 3}, "model.sharing.from_stage: must be a stage from 1 to 2 of LeNet, found 3"),
        (MMoE, {"from_stage": -1}, "model.sharing.from_stage: must be a stage from 1 to 2 of LeNet, found -1"),
        (MMoE, {"from_stage": 1, "hidden": [2]}, "model.sharing.from_stage: is for experts without `hidden`, found 1"),
        (MMoE, {"hidden": [0]}, "model.sharing.hidden: "),
        (CGC, {"shared": 0}, "model.sharing.shared: must be at least 1, found 0"),
        (CGC, {"own": -1}, "model.sharing.own: must be at least 1, found -1"),
        (PLE, {"levels": []}, "model.sharing.levels: must begin with 0 and ascend, found []"),
        (PLE, {"levels": [1]}, "model.sharing.levels: must begin with 0 and ascend, found [1]"),
        (PLE, {"levels": [0, 1, 1]}, "model.sharing.levels: must begin with 0 and ascend, found [0, 1, 1]"),
        (PLE, {"levels": [0, 7]}, "model.sharing.levels: must be a stage from 1 to 2 of LeNet, found 7"),
        (CrossStitch, {"same": 1.5}, "model.sharing.same: "),
        (CrossStitch, {"rate": 0.0}, "model.sharing.rate: must be greater than 0, found 0.0"),
        (Conditioned, {"after": []}, "model.sharing.after: must name a place, found []"),
        (Conditioned, {"after": [3]}, "model.sharing.after: must be a stage from 0 to 2, -1, or input, found 3"),
        (
            Conditioned,
            {"descriptor": {"left": [1], "other": [2]}},
            "model.sharing.descriptor: must be of the tasks ['left', 'right', 'train'], found ['left', 'other']",
        ),
        (
            Conditioned,
            {"descriptor": {"left": [1], "right": [2], "train": [1, 2]}},
            "model.sharing.descriptor: must have as many numbers for each task, found {'left': 1, ",
        ),
        (Conditioned, {"descriptor": "learned", "width": 0}, "model.sharing.width: "),
        (LowRankAdapters, {"rank": 0}, "model.sharing.rank: "),
        (LowRankAdapters, {"rank": 6}, "model.sharing.rank: must be at most 5, the size of a layer, found 6"),
        (TaskNormalization, {}, "model.sharing: TaskNormalization needs a backbone that normalises, found LeNet"),
        (SoftSharing, {"strength": -1.0}, "model.sharing.strength: must be finite and not negative, found -1.0"),
        (SoftSharing, {"strength": float("nan")}, "model.sharing.strength: must be finite and not negative, found nan"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(scheme: type[Sharing], options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}"):
        build(scheme, **options)
