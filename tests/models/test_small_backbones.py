"""LeNet and MLP."""

from functools import partial

import pytest
import torch
from torch import nn

from models.backbones import MLP, LeNet

SMALL = [
    (LeNet, (1, 28, 28), {}, [(10, 12, 12), (20, 4, 4), (50,)]),
    (LeNet, (1, 36, 36), {"dropout": 0.5}, [(10, 16, 16), (20, 6, 6), (50,)]),
    (
        LeNet,
        (3, 8, 10),
        {"widths": [4, 5], "kernel_size": 3, "padding": 1, "features": 6},
        [(4, 4, 5), (5, 2, 2), (6,)],
    ),
    (MLP, (8, 8), {}, [(256,), (128,)]),
    (MLP, (5,), {"hidden": [3], "dropout": 0.5}, [(3,)]),
]
small = pytest.mark.parametrize(("kind", "shape", "options", "shapes"), SMALL)


@small
def test_features_and_channels(kind, shape, options, shapes) -> None:
    backbone = kind(shape, **options)
    features = backbone(torch.randn(2, *shape))
    assert [tuple(feature.shape[1:]) for feature in features] == shapes
    assert backbone.channels == [c for c, *_ in shapes]


@small
def test_every_stage_is_a_layer_group(kind, shape, options, shapes) -> None:
    backbone = kind(shape, **options)
    groups = backbone.layer_groups()
    assert list(groups) == [f"stage{i}" for i in range(len(shapes))]
    assert [name for group in groups.values() for name in group] == [name for name, _ in backbone.named_parameters()]


@small
def test_every_parameter_learns(kind, shape, options, shapes) -> None:
    torch.manual_seed(0)
    backbone = kind(shape, **options)
    backbone(torch.randn(16, *shape))[-1].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in backbone.parameters())


def test_lenet_is_the_published_trunk() -> None:
    torch.manual_seed(0)
    lenet, x = LeNet((1, 28, 28)), torch.randn(2, 1, 28, 28)
    first, second, last = (p for p in lenet.modules() if isinstance(p, nn.Conv2d | nn.Linear))
    pool = partial(nn.functional.max_pool2d, kernel_size=2)
    expected = last(pool(second(pool(first(x)).relu())).relu().flatten(1)).relu()
    torch.testing.assert_close(lenet(x)[-1], expected)
    assert sum(p.numel() for p in lenet.parameters()) == 10 * 26 + 20 * 251 + 50 * 321


def test_lenet_drops_whole_channels_of_the_last_convolution() -> None:
    torch.manual_seed(0)
    lower, upper, _ = LeNet((1, 28, 28), dropout=0.5)(torch.randn(8, 1, 28, 28))
    silent = [(feature.flatten(2) == feature.flatten(2)[..., :1]).all(2).float().mean() for feature in (lower, upper)]
    assert silent[0] == 0
    assert 0.3 < silent[1] < 0.7


@pytest.mark.parametrize("shape", [(1, 15, 28), (1, 28, 15), (1, 4, 4)])
def test_lenet_on_too_small_an_image(shape: tuple[int, int, int]) -> None:
    LeNet((1, 16, 16))
    with pytest.raises(ValueError, match=r"^input_shape: .*backbone\.widths \[10, 20\]") as caught:
        LeNet(shape)
    assert str(shape) in str(caught.value)


def test_lenet_on_no_image() -> None:
    with pytest.raises(ValueError, match=r"^input_shape: LeNet reads images .*found \(784,\)$"):
        LeNet((784,))


def test_mlp_without_layers() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.hidden: .*found \[\]$"):
        MLP((4,), hidden=[])
