"""A tree of branches: what it is equal to at its ends, how it splits, and what is refused."""

import re
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbones import BackboneBuilder, LeNet, TimmBackbone
from models.errors import ConfigurationError
from models.sharing import Branching, HardSharing, IndependentNetworks, Sharing

TASKS = ["a", "b", "c", "d"]
LENET = BackboneBuilder(partial(LeNet, widths=(4, 6), kernel_size=3, padding=1, features=5), (1, 8, 8))
RESNET = BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32))
ROWS = {"a": torch.arange(6), "b": torch.tensor([0, 2, 3]), "d": torch.tensor([1, 3, 5])}
APART = [[task] for task in TASKS]


def build(scheme: type[Sharing], backbone: BackboneBuilder = LENET, **options: Any) -> Any:
    torch.manual_seed(0)
    return scheme(backbone, TASKS, **options).double()


def inputs(backbone: BackboneBuilder = LENET) -> Tensor:
    return torch.randn(6, *backbone.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def assert_equal(one: Sharing, other: Sharing, backbone: BackboneBuilder) -> None:
    """At every stage, bit for bit, with statistics of the batch."""
    x = inputs(backbone)
    expected, found = other(x, ROWS), one(x, ROWS)
    for task, features in found.items():
        for stage, feature in enumerate(features):
            assert torch.equal(feature, expected[task][stage])


@pytest.mark.parametrize("backbone", [LENET, RESNET], ids=["lenet", "resnet"])
def test_without_a_split_it_is_hard_sharing(backbone: BackboneBuilder) -> None:
    sharing, hard = build(Branching, backbone), build(HardSharing, backbone)
    assert_equal(sharing, hard, backbone)
    trunk = {name.removeprefix("networks.a."): x for name, x in sharing.state_dict().items() if ".a." in name}
    assert all(torch.equal(x, trunk[name.removeprefix("backbone.")]) for name, x in hard.state_dict().items())
    assert [p.numel() for p in sharing.shared_parameters()] == [p.numel() for p in hard.shared_parameters()]


@pytest.mark.parametrize("backbone", [LENET, RESNET], ids=["lenet", "resnet"])
def test_with_all_splits_it_is_independent_networks(backbone: BackboneBuilder) -> None:
    """From equal copies, after a step of the trunk: running statistics are the trunk's too."""
    sharing, alone = build(Branching, backbone), build(IndependentNetworks, backbone)
    sharing(inputs(backbone), ROWS)
    sharing.split(0, APART)
    trunk = {name: x for name, x in sharing.networks["a"].state_dict().items()}
    for network in alone.networks.values():
        network.load_state_dict(trunk)
    assert_equal(sharing, alone, backbone)
    assert sharing.shared_parameters() == []
    for task in TASKS:
        own = list(sharing.networks[task].parameters())
        assert {*map(id, sharing.task_parameters(task))} == {*map(id, own)}
        for name, x in sharing.networks[task].state_dict().items():
            assert torch.equal(x, alone.networks[task].state_dict()[name])


def test_branch_sees_each_row_of_its_tasks_once() -> None:
    """By hand: b and d have a branch from the second stage on, and the first normalises the batch as it is."""
    sharing, x = build(Branching, RESNET, tree={1: [["a", "c"], ["b", "d"]]}), inputs(RESNET)
    first, other = deepcopy(sharing.networks["a"].stages), deepcopy(sharing.networks["b"].stages)
    lower = first[0](x)
    features = sharing(x, ROWS)
    assert torch.equal(features["a"][1], first[1](lower))
    both = other[1](lower[[0, 1, 2, 3, 5]])
    assert torch.equal(features["b"][1], both[[0, 2, 3]])
    assert torch.equal(features["d"][1], both[[1, 3, 4]])
    assert torch.equal(features["d"][0], lower[ROWS["d"]])


def test_split_is_a_copy_and_changes_no_output() -> None:
    sharing = build(Branching, RESNET)
    sharing(inputs(RESNET), ROWS)  # which moves running statistics
    before = sharing.eval()(inputs(RESNET), ROWS)
    came_from = sharing.split(2, [["a", "d"], ["b", "c"]])
    state = sharing.state_dict()
    assert all(torch.equal(state[new], state[old]) for new, old in came_from.items())
    assert any("running_mean" in name for name in came_from)
    assert all(name.startswith("networks.b.") for name in came_from)
    after = sharing(inputs(RESNET), ROWS)
    assert all(torch.equal(after[task][-1], before[task][-1]) for task in ROWS)
    assert sharing.groups(1) == [TASKS]
    assert sharing.groups(2) == sharing.groups(4) == [["a", "d"], ["b", "c"]]
    assert sharing.split(2, [["a", "d"], ["b", "c"]]) == {}


def test_split_below_keeps_what_is_apart_above() -> None:
    sharing = build(Branching, tree={2: [["a", "b"], ["c", "d"]]})
    came_from = sharing.split(1, [["a", "c"], ["b", "d"]])
    assert [sharing.groups(stage) for stage in range(3)] == [[TASKS], [["a", "c"], ["b", "d"]], APART]
    copies = {(new.split(".")[1], old.split(".")[1], new.split(".")[3]) for new, old in came_from.items()}
    assert copies == {("b", "a", "1"), ("b", "a", "2"), ("d", "c", "2")}


def test_tree_is_restored_with_the_weights() -> None:
    sharing, other = build(Branching), build(Branching)
    sharing.split(1, [["a", "c"], ["b", "d"]])
    other.load_state_dict(sharing.state_dict())
    copy = deepcopy(other)
    for each in (other, copy):
        assert each.groups(2) == [["a", "c"], ["b", "d"]]
        assert len(each.unused_parameters()) == len(sharing.unused_parameters()) == 2 * 6 + 2
    assert_equal(other, sharing, LENET)


def test_gradnorm_compares_the_last_stage_below_the_first_split() -> None:
    sharing = build(Branching)
    assert [id(w) for w in sharing.compared_weights()] == [id(sharing.networks["a"].stages[2][1].weight)]
    sharing.split(2, [["a", "b"], ["c", "d"]])
    assert [id(w) for w in sharing.compared_weights()] == [id(sharing.networks["a"].stages[1][0].weight)]
    sharing.split(0, [["a", "b"], ["c", "d"]])
    assert [id(w) for w in sharing.compared_weights()] == [
        id(sharing.networks[task].stages[2][1].weight) for task in ("a", "c")
    ]


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({3: [TASKS]}, "model.sharing.tree: must name stages with parameters, of [0, 1, 2], found 3"),
        ({-1: [TASKS]}, "model.sharing.tree: must name stages with parameters, of [0, 1, 2], found -1"),
        (
            {1: [["a", "b"], ["c", "x"]]},
            "model.sharing.tree: must have each of the tasks ['a', 'b', 'c', 'd'] once at stage 1, found [['a', 'b'], "
            "['c', 'x']]",
        ),
        ({1: [["a", "b"], ["c", "d", "a"]]}, "model.sharing.tree: must have each of the tasks "),
        ({1: [["a", "b", "c"]]}, "model.sharing.tree: must have each of the tasks "),
        (
            {0: [["a", "b"], ["c", "d"]], 2: [["a", "b", "c"], ["d"]]},
            "model.sharing.tree: must not join at stage 2 what is apart below it, found [['a', 'b', 'c'], ['d']]",
        ),
    ],
)
def test_what_is_no_tree_is_refused(tree: dict[int, list[list[str]]], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}"):
        build(Branching, tree=tree)
