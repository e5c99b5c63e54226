"""MTAN: its formulas by hand, what it is equal to at the ends of its range, where it attends, and what is refused."""

import re
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from residual import Block, Residual
from torch import Tensor, nn

from app.network.network import Network
from datamodules.targets import DenseCategorical, DenseContinuous
from models.backbones import MLP, Backbone, BackboneBuilder, LeNet, TimmBackbone
from models.backbones.last_block import last_blocks
from models.errors import ConfigurationError
from models.heads import DeepLabHead, DenseHead, UpsamplingHead
from models.sharing import MTAN, HardSharing

TASKS = ["left", "right", "train"]
ROWS = {"left": torch.arange(4), "train": torch.tensor([1, 3])}
RESIDUAL = BackboneBuilder(Residual, (1, 12, 12))
VIT = BackboneBuilder(partial(TimmBackbone, name="test_vit"), (3, 32, 32))


def timm(name: str) -> BackboneBuilder:
    return BackboneBuilder(partial(TimmBackbone, name=name), (3, 64, 64))


def build(backbone: BackboneBuilder = RESIDUAL, scheme: Any = MTAN, **options: Any) -> Any:
    torch.manual_seed(0)
    return scheme(backbone, TASKS, **options).double()


def inputs(backbone: BackboneBuilder = RESIDUAL) -> Tensor:
    return torch.randn(4, *backbone.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", {1: (64, 16, 16), 2: (128, 8, 8), 3: (256, 4, 4), 4: (512, 2, 2)}),
        ("seresnet18", {1: (64, 16, 16), 2: (128, 8, 8), 3: (256, 4, 4), 4: (512, 2, 2)}),
        ("resnet10t", {1: (64, 16, 16)}),
        ("test_vit", dict.fromkeys(range(1, 5), (17, 64))),
        ("test_convnext", {0: (24, 16, 16), 1: (32, 8, 8), 2: (48, 4, 4), 3: (64, 2, 2)}),
        ("mobilenetv3_small_050", {2: (16, 8, 8), 3: (24, 4, 4)}),
        ("swin_tiny_patch4_window7_224", {}),  # its blocks have channels last, its stages first
    ],
)
def test_stages_with_blocks(name: str, stages: dict[int, tuple[int, ...]]) -> None:
    builder = timm(name)
    backbone = builder()
    buffers = {key: x.clone() for key, x in backbone.named_buffers()}
    found = last_blocks(backbone, builder.input_shape)
    assert {stage: tuple(block.shape) for stage, block in found.items()} == stages
    assert all(x.equal(buffers[key]) for key, x in backbone.named_buffers())
    assert not any(module._forward_hooks for module in backbone.modules())


@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_last_block_is_a_whole_one_and_the_last(name: str) -> None:
    builder = timm(name)
    net = (backbone := builder()).net
    stages = (
        [net.blocks[i] for i in (0, 2, 3, 5)]
        if name == "test_vit"
        else [getattr(net, f"layer{i}")[-1] for i in (1, 2, 3, 4)]
    )
    assert [block.module for block in last_blocks(backbone, builder.input_shape).values()] == stages


def test_mtan_by_hand() -> None:
    """a^j_t = σ(h_t(g_t([u^j; f^j(â^{j−1}_t)]))), â^j_t = a^j_t ⊙ p^j, in training and of the task's rows alone."""
    sharing, twin, x = build(reduction=2), build(reduction=2), inputs()
    stem, first, between, second, third, pool = twin.backbone.stages
    assert sharing.attended == [1, 3, 4]  # that between has blocks, of which the last one reads another width
    u1 = first[0](stem(x))
    p1 = first[1](u1)
    passed = between(p1)
    u2 = second[0](passed)
    p2 = second[1](u2)
    u3 = third[0](p2)
    p3 = third[1](u3)
    for task, features in sharing(x, ROWS).items():
        rows = ROWS[task]

        def mask(place: int, read: Tensor, task: str = task) -> Tensor:
            reduce, norm, _, widen, last, _ = twin.masks[task][place]
            return last(widen(norm(reduce(read)).relu())).sigmoid()

        def refined(place: int, a: Tensor) -> Tensor:
            convolution, norm, _ = twin.refiners[place]
            return norm(convolution(a)).relu()

        a1 = mask(0, u1[rows]) * p1[rows]
        a2 = mask(1, torch.cat([u2[rows], refined(0, a1)], dim=1)) * p2[rows]
        a3 = mask(2, torch.cat([u3[rows], refined(1, a2)], dim=1)) * p3[rows]
        expected = [stem(x)[rows], a1, passed[rows], a2, a3, pool(a3)]
        torch.testing.assert_close(list(features), expected)
    assert len(twin.refiners) == 2
    assert [[*f[0].kernel_size, *f[0].stride] for f in twin.refiners] == [[3, 3, 4, 4], [3, 3, 2, 2]]
    assert [own[0].in_channels for own in twin.masks["left"]] == [4, 12, 16]
    assert [own[0].out_channels for own in twin.masks["left"]] == [2, 3, 4]
    running = {name: x for name, x in twin.state_dict().items() if "running" in name}
    assert running
    assert all(x.equal(sharing.state_dict()[name]) for name, x in running.items())


def test_mtan_of_tokens_by_hand() -> None:
    sharing, x = build(VIT).eval(), inputs(VIT)
    net, stages = sharing.backbone.net, sharing.backbone.stages
    refined, trunk, attended = [], stages[0](x), None
    for place, (group, last) in enumerate(zip(stages[1:5], (0, 2, 3, 5), strict=True)):
        blocks = list(group)
        assert blocks[-1] is net.blocks[last]
        for block in blocks[:-1]:
            trunk = block(trunk)
        u, trunk = trunk, blocks[-1](trunk)
        reduce, norm, _, widen, normed, _ = sharing.masks["train"][place]
        read = torch.cat([u, *refined], dim=2)
        hidden = norm((read @ reduce.weight[..., 0].T).mT).relu()
        attended = normed((hidden.mT @ widen.weight[..., 0].T).mT).sigmoid().mT * trunk
        if place < 3:
            linear, norm, _ = sharing.refiners[place]
            assert linear.weight.shape == (64, 64, 1)
            refined = [norm((attended @ linear.weight[..., 0].T).mT).relu().mT]
    features = sharing(x, ROWS)["train"]
    torch.testing.assert_close(features[4], attended[ROWS["train"]])
    torch.testing.assert_close(features[5], stages[5](attended)[ROWS["train"]])


@pytest.mark.parametrize("backbone", [RESIDUAL, VIT, timm("resnet10t")], ids=["residual", "vit", "resnet"])
def test_masks_of_ones_are_hard_sharing(backbone: BackboneBuilder) -> None:
    sharing, hard = build(backbone).eval(), build(backbone, HardSharing).eval()
    for own in sharing.masks.values():
        for *_, norm, _ in own:
            nn.init.zeros_(norm.weight)
            nn.init.constant_(norm.bias, 100.0)
    expected = hard(inputs(backbone), ROWS)
    for task, features in sharing(inputs(backbone), ROWS).items():
        for found, wanted in zip(features, expected[task], strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_single_row_of_a_task_is_masked_too(norm: str) -> None:
    sharing = build(norm=norm)
    features = sharing(inputs(), {"left": torch.arange(4), "right": torch.tensor([2])})
    assert features["right"][-1].shape == (1, 8)
    features["right"][-1].sum().backward()
    assert all(p.grad is not None for p in sharing.task_parameters("right"))


def test_rows_by_themselves_do_not_see_each_other() -> None:
    sharing, x = build(norm="layer"), inputs()
    alone = sharing(x[[3]], {"train": torch.tensor([0])})["train"]
    torch.testing.assert_close([feature[1:] for feature in sharing(x, ROWS)["train"]], list(alone))


def test_a_copy_reads_what_its_own_blocks_do() -> None:
    sharing = build().eval()
    copy = deepcopy(sharing)
    expected = sharing(inputs(), ROWS)["left"]
    torch.testing.assert_close(copy(inputs(), ROWS)["left"], expected)
    for parameter in copy.backbone.parameters():
        nn.init.zeros_(parameter)
    assert not copy(inputs(), ROWS)["left"][-1].any()
    torch.testing.assert_close(sharing(inputs(), ROWS)["left"], expected)


@pytest.mark.parametrize("head", [DeepLabHead, UpsamplingHead])
def test_heads_of_a_prediction_a_pixel_read_what_is_masked(head: type[DenseHead]) -> None:
    targets = {"objects": DenseCategorical(("a", "b")), "depth": DenseContinuous()}
    network = Network(targets, RESIDUAL.input_shape, Residual, partial(MTAN, norm="layer"), head=head)
    outputs = network(inputs().float(), {"objects": torch.arange(4), "depth": torch.tensor([1, 3])})
    assert [tuple(x.shape) for x in outputs.values()] == [(4, 2, 12, 12), (2, 1, 12, 12)]
    outputs["depth"].sum().backward()
    assert all(p.grad is None for p in network.task_parameters("objects"))
    assert all(p.grad is not None for p in network.task_parameters("depth"))


class Odd(Backbone):
    """Two stages of blocks, of maps of 7×7 and 5×5."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = [1, 1]
        self.layers = nn.ModuleList([Block(1, 1), nn.Sequential(nn.AvgPool2d(3, 1), Block(1, 1))])

    @property
    def stages(self) -> list[nn.Module]:
        return list(self.layers)


@pytest.mark.parametrize(
    ("backbone", "options", "line"),
    [
        (
            BackboneBuilder(MLP, (6,)),
            {},
            "model.sharing: MTAN needs a backbone whose stages end in blocks, as those of ResNets and transformers do, "
            "found MLP",
        ),
        (BackboneBuilder(partial(MLP, hidden=(6, 6)), (6,)), {}, "model.sharing: MTAN needs a backbone whose stages "),
        (BackboneBuilder(LeNet, (1, 28, 28)), {}, "model.sharing: MTAN needs a backbone whose stages end in blocks, "),
        (
            BackboneBuilder(Odd, (1, 7, 7)),
            {},
            "model.sharing: MTAN needs stages whose sizes strides make of those below, found [5, 5] above [7, 7]",
        ),
        (RESIDUAL, {"reduction": 0}, "model.sharing.reduction: must be at least 1, found [0]"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(backbone: BackboneBuilder, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}"):
        build(backbone, **options)
