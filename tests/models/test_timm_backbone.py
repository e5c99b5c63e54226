"""TimmBackbone: nine families cut, trained and grouped; what the user can get wrong."""

import copy
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import timm
import torch
from torch import Tensor, nn

from models.backbones import TimmBackbone
from models.heads import LinearHead
from models.sharing import HardSharing

# name, side of the image, channels of each stage
FAMILIES = [
    ("resnet18", 64, [64, 64, 128, 256, 512, 512]),
    ("resnet50", 64, [64, 256, 512, 1024, 2048, 2048]),
    ("convnext_atto", 64, [40, 80, 160, 320, 320]),
    ("efficientnet_b0", 64, [16, 24, 40, 112, 320, 1280]),
    ("tf_efficientnet_lite0", 64, [16, 24, 40, 112, 320, 1280]),
    ("regnety_002", 64, [32, 24, 56, 152, 368, 368]),
    ("mobilenetv3_small_050", 64, [16, 8, 16, 24, 288, 1024]),
    ("vit_tiny_patch16_224", 32, [192] * 6),
    ("swin_tiny_patch4_window7_224", 56, [96, 192, 384, 768, 768]),
]
families = pytest.mark.parametrize(("name", "side", "channels"), FAMILIES, ids=[name for name, *_ in FAMILIES])


def images(side: int, batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


@families
def test_stages_compose_to_the_network(name: str, side: int, channels: list[int]) -> None:
    backbone, x = TimmBackbone((3, side, side), name).eval(), images(side)
    with torch.no_grad():
        features = backbone(x)
        own = backbone.net.forward_head(backbone.net.forward_features(x), pre_logits=True)
    assert len(features) >= 4
    assert backbone.channels == channels
    assert [f.shape[1] if f.ndim == 4 else f.shape[-1] for f in features] == channels
    torch.testing.assert_close(features[-1], own)


@families
def test_features_are_those_of_timm(name: str, side: int, channels: list[int]) -> None:
    backbone, x = TimmBackbone((3, side, side), name).eval(), images(side)
    vit = name.startswith("vit")
    options = {"output_fmt": "NLC", "return_prefix_tokens": True, "norm": False} if vit else {}
    with torch.no_grad():
        ours, (_, intermediates) = backbone(x), backbone.net.forward_intermediates(x, **options)
    if vit:  # every third block, the class token in front
        intermediates = [torch.cat([prefix, patches], 1) for patches, prefix in intermediates[2::3]]
        ours = ours[1:]
    assert len(ours) == len(intermediates) + 1
    for feature, reference in zip(ours, intermediates, strict=False):
        torch.testing.assert_close(feature, reference)


@families
def test_every_parameter_learns(name: str, side: int, channels: list[int]) -> None:
    torch.manual_seed(0)
    tasks = {"a": 3, "b": 2, "c": 1}
    sharing = HardSharing(lambda: TimmBackbone((3, side, side), name), list(tasks))
    heads = nn.ModuleDict({task: LinearHead(sharing.channels[task], outputs) for task, outputs in tasks.items()})
    x, rows = images(side), {"a": torch.arange(4), "b": torch.tensor([0, 2]), "c": torch.tensor([3])}
    parameters = dict([*sharing.named_parameters(), *heads.named_parameters()])
    optimizer = torch.optim.SGD(parameters.values(), lr=0.01)
    for _ in range(2):  # zero-initialised scales hide what is below them from the first gradient
        optimizer.zero_grad()
        features = sharing(x, rows)
        loss = sum((heads[task](features[task]) - 1).square().mean() for task in tasks)
        loss.backward()
        assert [key for key, p in parameters.items() if p.grad is None] == []
        optimizer.step()
    assert [key for key, p in parameters.items() if not p.grad.any() or not p.grad.isfinite().all()] == []


@families
def test_layer_groups_partition_the_parameters_by_depth(name: str, side: int, channels: list[int]) -> None:
    backbone = TimmBackbone((3, side, side), name)
    groups = backbone.layer_groups()
    grouped = [parameter for group in groups.values() for parameter in group]
    assert all(groups.values())
    assert sorted(grouped) == sorted(key for key, _ in backbone.named_parameters())
    assert depth_is_monotone(backbone, images(side, 1), list(groups.values()))


def depth_is_monotone(backbone: TimmBackbone, x: Tensor, groups: list[list[str]]) -> bool:
    """Whether a later group's modules are first called after those of all earlier groups."""
    calls: list[str] = []
    for key, module in backbone.named_modules():
        module.register_forward_pre_hook(lambda *_, key=key: calls.append(key))
    backbone.eval()(x)
    first = {key: i for i, key in reversed(list(enumerate(calls)))}
    owners = [[key.rpartition(".")[0] for key in group] for group in groups]
    orders = [[first[owner] for owner in group if owner in first and owner != "net"] for group in owners]
    return all(max(before) < min(after) for before, after in pairwise(orders))


def test_group_names_are_modules() -> None:
    groups = list(TimmBackbone((3, 32, 32), "resnet18").layer_groups())
    assert groups[:2] == ["conv1+bn1", "layer1.0"]
    assert groups[-1] == "layer4.1"
    groups = list(TimmBackbone((3, 32, 32), "vit_tiny_patch16_224").layer_groups())
    assert groups[0] == "cls_token+pos_embed+patch_embed"
    assert groups[-1] == "blocks.11+norm"


def test_family_without_group_matcher_is_grouped_by_child() -> None:
    backbone = TimmBackbone((3, 64, 64), "poolformer_s12")
    assert not hasattr(backbone.net, "group_matcher")
    assert list(backbone.layer_groups()) == ["stem", "stages", "head"]


def test_network_of_another_shape_is_cut_in_two() -> None:
    backbone, x = TimmBackbone((3, 32, 32), "eva02_tiny_patch14_224").eval(), images(32)
    tokens, embedding = backbone(x)
    torch.testing.assert_close(tokens, backbone.net.forward_features(x))
    torch.testing.assert_close(embedding, backbone.net(x))


def test_channels_and_size_come_from_the_data() -> None:
    backbone = TimmBackbone((5, 48, 32), "vit_tiny_patch16_224")
    assert backbone(torch.randn(2, 5, 48, 32))[0].shape == (2, 1 + 3 * 2, 192)
    assert TimmBackbone((1, 40, 56), "resnet18")(torch.randn(2, 1, 40, 56))[-1].shape == (2, 512)


def test_construction_leaves_statistics_mode_and_randomness_alone() -> None:
    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=0)
    after = torch.rand(1)
    torch.manual_seed(0)
    backbone = TimmBackbone((3, 64, 64), "resnet18")
    assert torch.equal(torch.rand(1), after)
    assert backbone.training
    assert all(module.training for module in backbone.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(backbone.state_dict()[f"net.{key}"], value)


def test_drop_rates_reach_the_network() -> None:
    backbone, x = TimmBackbone((3, 32, 32), "resnet18", drop_rate=0.5, drop_path_rate=0.1), images(32, 2)
    rates = [module.drop_prob for module in backbone.modules() if module.__class__.__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.1)
    assert 0.3 < (backbone(x)[-1] == 0).float().mean() < 0.9


def test_copy_conversion_and_modes_follow_the_network() -> None:
    backbone, x = TimmBackbone((3, 32, 32), "resnet18").eval(), images(32, 2)
    before = backbone(x)[-1]
    twin = copy.deepcopy(backbone)
    nn.init.zeros_(twin.net.conv1.weight)
    assert not torch.equal(twin(x)[-1], before)
    torch.testing.assert_close(backbone(x)[-1], before)
    assert backbone.double()(x.double())[-1].dtype == torch.float64
    backbone.train()(x.double())
    assert backbone.net.bn1.num_batches_tracked == 1


def test_replaced_modules_are_used() -> None:
    backbone = nn.SyncBatchNorm.convert_sync_batchnorm(TimmBackbone((3, 32, 32), "resnet18"))
    kinds = {type(module) for stage in backbone.stages for module in stage.modules()}
    assert nn.SyncBatchNorm in kinds
    assert not any(issubclass(kind, nn.BatchNorm2d) for kind in kinds)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_compiles_in_one_graph(name: str) -> None:
    backbone, x = TimmBackbone((3, 32, 32), name).eval(), images(32, 2)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), backbone(x))


def test_unknown_name_lists_near_ones() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.name: .*'resnet19'.*resnet18"):
        TimmBackbone((3, 32, 32), "resnet19")
    with pytest.raises(ValueError, match=r"^backbone\.name: .*, found [^;]*$"):
        TimmBackbone((3, 32, 32), "?")


def test_name_with_a_tag() -> None:
    assert TimmBackbone((3, 32, 32), "vit_tiny_patch16_224.augreg_in21k").channels == [192] * 6


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((3, 16, 16), "convnext_atto"),  # vanishes
        ((3, 8, 8), "vit_tiny_patch16_224"),  # less than a patch
        ((784,), "resnet18"),  # no image
    ],
)
def test_unsuitable_input(shape: tuple[int, ...], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^input_shape: {name} ") as caught:
        TimmBackbone(shape, name)
    assert str(shape) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_network_without_one_embedding() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.name: .*crossvit_9_240"):
        TimmBackbone((3, 240, 240), "crossvit_9_240")


@pytest.mark.parametrize(("stride", "size"), [(None, 2), (16, 4), (8, 8)])
def test_output_stride_keeps_the_last_map_large(stride: int | None, size: int) -> None:
    """With the same weights: dilated convolutions in place of strides."""
    plain, dilated = (TimmBackbone((3, 64, 64), "resnet18", output_stride=each) for each in (None, stride))
    dilated.load_state_dict(plain.state_dict())
    features = dilated(images(64, 2))
    assert features[-2].shape[2:] == (size, size)
    assert features[1].shape[2:] == (16, 16)


def test_option_that_a_network_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.name: vgg11 .*drop_path_rate"):
        TimmBackbone((3, 32, 32), "vgg11", drop_path_rate=0.1)
    with pytest.raises(ValueError, match=r"^backbone\.name: mobilenetv3_small_050 .*output_stride"):
        TimmBackbone((3, 32, 32), "mobilenetv3_small_050", output_stride=8)


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"HF_HUB_OFFLINE": "1"}, id="offline", marks=pytest.mark.slow),
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}, id="unreachable"),
    ],
)
def test_pretrained_without_the_hub(environment: dict[str, str], tmp_path: object) -> None:
    """In a process of its own, for the hub's address is read at import; unpatched, the requests repeat for 46 s."""
    code = "from models.backbones import TimmBackbone; TimmBackbone((3, 32, 32), 'resnet18', pretrained=True)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
    )
    error = found.stderr.strip().splitlines()[-1]
    assert error.startswith(
        "models.errors.ConfigurationError: backbone.pretrained: the weights of resnet18 cannot be fetched"
    )
    assert error.endswith("backbone.weights")


def test_pretrained_where_timm_has_no_weights() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.pretrained: timm has no weights for coatnet_0_224;"):
        TimmBackbone((3, 224, 224), "coatnet_0_224", pretrained=True)
