"""One more layer on a backbone."""

from functools import partial

import pytest
import torch
from jsonargparse import Namespace

from app.configuration import timm_name
from models.backbones import LeNet, Projected, TimmBackbone

RESNET = partial(TimmBackbone, name="resnet10t")
PARTS = [(partial(LeNet, widths=[4, 5], features=6), (1, 28, 28)), (RESNET, (3, 64, 64))]


@pytest.mark.parametrize(("below", "shape"), PARTS, ids=["lenet", "timm"])
def test_one_stage_more_on_the_same_features(below, shape) -> None:
    torch.manual_seed(0)
    projected = Projected(shape, below, features=7).eval()
    x = torch.randn(3, *shape)
    *features, embedding = projected(x)
    for feature, alone in zip(features, projected.backbone(x), strict=True):
        torch.testing.assert_close(feature, alone)
    assert embedding.shape == (3, 7)
    assert projected.channels == [*projected.backbone.channels, 7]
    linear, norm = projected.projection[:2]
    expected = torch.relu((linear(features[-1]) - norm.running_mean) / (norm.running_var + norm.eps).sqrt())
    torch.testing.assert_close(embedding, expected)  # the norm's weight and bias begin as 1 and 0; no dropout


@pytest.mark.parametrize("coarse", [False, True])
def test_groups_are_a_partition_that_ends_with_the_new_layer(coarse) -> None:
    projected = Projected((3, 64, 64), RESNET)
    groups = projected.layer_groups(coarse)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in projected.named_parameters())
    assert list(groups) == [*projected.backbone.layer_groups(coarse), "projection"]


def test_transforms_are_those_of_the_network_below() -> None:
    below = Namespace(class_path="models.backbones.TimmBackbone", init_args=Namespace(name="resnet10t"))
    assert (
        timm_name(Namespace(class_path="models.backbones.Projected", init_args=Namespace(backbone=below)))
        == "resnet10t"
    )
