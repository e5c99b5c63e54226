"""Modes of the modules of partly frozen networks."""

import copy

import pytest
import torch
from torch import nn

from app.network.layers import layers_of
from app.transfer.freezing import set_modes, set_trainable
from models.backbones import TimmBackbone
from models.sharing import HardSharing

FAMILIES = [
    ("resnet10t", 32),
    ("tf_efficientnet_lite0", 32),
    ("vit_tiny_patch16_224", 32),
    ("convnext_atto", 32),
    ("mobilenetv3_small_050", 32),
]


def network(name: str, size: int) -> HardSharing:
    torch.manual_seed(0)
    return HardSharing(
        lambda: TimmBackbone((3, size, size), name, drop_rate=0.5, drop_path_rate=0.5 if "mobile" not in name else 0.0),
        ["only"],
    )


@pytest.mark.parametrize(("name", "size"), FAMILIES)
def test_frozen_stages_are_those_of_evaluation(name: str, size: int) -> None:
    """With the lowest groups frozen, features that no trained parameter reaches are those of evaluation."""
    sharing = network(name, size)
    layers = layers_of(sharing, sharing.layer_groups(coarse=True), {})
    x = torch.randn(4, 3, size, size)
    with torch.no_grad():
        expected = sharing.eval().backbone(x)
    start = copy.deepcopy(sharing.state_dict())
    for frozen in range(len(layers) + 1):
        trained = list(layers)[frozen:]
        sharing.load_state_dict(start)
        sharing.train()
        set_trainable(layers, trained)
        set_modes(sharing.backbone, layers, trained, "train")
        found = sharing.backbone(x)
        fixed = [not feature.requires_grad for feature in found]
        assert fixed == sorted(fixed, reverse=True)
        for feature, reference, is_fixed in zip(found, expected, fixed, strict=True):
            assert torch.equal(feature, reference) or not is_fixed, frozen
        assert torch.equal(found[-1], expected[-1]) == (not trained)
    assert all(fixed)  # the last time all was frozen, with the dropout behind it


def test_dropout_goes_with_what_is_before_it() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.ReLU(), nn.Linear(2, 2), nn.Dropout())
    layers = {"backbone.a": list(net[0].parameters()), "backbone.b": list(net[3].parameters())}
    for trained, modes in (("backbone.a", [True] * 3 + [False] * 2), ("backbone.b", [False] * 3 + [True] * 2)):
        set_modes(net.train(), layers, [trained], "train")
        assert [module.training for module in net] == modes


def test_dropout_before_all_goes_with_what_is_behind_it() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    layers = {"heads.a": list(net[1].parameters())}
    set_modes(net.train(), layers, [], "train")
    assert not net[0].training
    set_modes(net.train(), layers, ["heads.a"], "train")
    assert net[0].training


@pytest.mark.parametrize(("mode", "expected"), [("train", [False, True]), ("eval", [False] * 2), ("stats", [True] * 2)])
def test_batch_norm(mode: str, expected: list[bool]) -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    layers = {"backbone.a": list(net[0].parameters()), "backbone.b": list(net[1].parameters())}
    set_modes(net.train(), layers, ["backbone.b"], mode)
    assert [module.training for module in net] == expected


def test_frozen_parameters_lose_their_gradient() -> None:
    linear = nn.Linear(2, 2)
    linear(torch.ones(1, 2)).sum().backward()
    set_trainable({"heads.a": list(linear.parameters())}, [])
    assert all(p.grad is None and not p.requires_grad for p in linear.parameters())


def test_what_a_network_fixes_itself_is_no_layer() -> None:
    linear = nn.Linear(2, 2)
    linear.bias.requires_grad_(False)
    layers = layers_of(linear, {"backbone.a": ["weight"], "backbone.b": ["bias"]}, {})
    assert list(layers) == ["backbone.a"]
