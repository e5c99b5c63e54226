"""Backbones of several modalities, joined at the end."""

from functools import partial

import pytest
import torch
from torch import Tensor

from models.backbones import MLP, LateFusion, LeNet, TimmBackbone
from models.sharing import HardSharing, IndependentNetworks, Sharing

SHAPES = {"image": (1, 16, 16), "type": (3,)}  # nn.Module has a method `type`
PARTS = {"type": partial(MLP, hidden=[8, 4]), "image": partial(LeNet, features=6)}


def build() -> LateFusion:
    torch.manual_seed(0)
    return LateFusion(SHAPES, PARTS)


def inputs(rows: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(rows, *shape, generator=generator) for name, shape in SHAPES.items()}


def test_embeddings_of_the_modalities_side_by_side() -> None:
    fusion, x = build(), inputs()
    (feature,) = fusion(x)
    assert fusion.channels == [feature.shape[1]] == [10]
    expected = [fusion.joined.backbones[modality](x[modality])[-1] for modality in ("type", "image")]
    torch.testing.assert_close(feature, torch.cat(expected, dim=1))


def test_layer_groups_are_a_partition_from_input_to_output() -> None:
    fusion = build()
    groups = fusion.layer_groups()
    assert list(groups) == ["image.stage0", "type.stage0+image.stage1", "type.stage1+image.stage2"]
    found = [name for names in groups.values() for name in names]
    assert sorted(found) == sorted(name for name, _ in fusion.named_parameters())
    assert {name.split(".")[2] for name in groups["image.stage0"]} == {"image"}


def test_with_a_network_of_timm() -> None:
    parts = {"image": partial(TimmBackbone, name="test_resnet.r160_in1k"), "type": partial(MLP, hidden=[8])}
    fusion = LateFusion({"image": (3, 32, 32), "type": (3,)}, parts)
    found = [name for names in fusion.layer_groups().values() for name in names]
    assert sorted(found) == sorted(name for name, _ in fusion.named_parameters())
    (feature,) = fusion({"image": torch.randn(2, 3, 32, 32), "type": torch.randn(2, 3)})
    assert feature.shape == (2, *fusion.channels)


@pytest.mark.parametrize("scheme", [HardSharing, IndependentNetworks])
def test_under_every_sharing(scheme: type[Sharing]) -> None:
    torch.manual_seed(0)
    sharing, x = scheme(build, ["a", "b"]), inputs(16)
    rows = {"a": torch.tensor([0, 3]), "b": torch.arange(16)}
    features = sharing(x, rows)
    for task, chosen in rows.items():
        backbone = sharing.backbone if scheme is HardSharing else sharing.networks[task]
        expected = backbone({modality: values[chosen] for modality, values in x.items()})
        torch.testing.assert_close(features[task][0], expected[0])
    features["b"][-1].sum().backward()
    reached = sharing.shared_parameters() or sharing.task_parameters("b")
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in reached)


def test_modalities_that_the_data_does_not_have() -> None:
    message = r"^backbone\.backbones: .*\['image', 'type'\], found \['image', 'text'\]$"
    with pytest.raises(ValueError, match=message):
        LateFusion(SHAPES, {"image": LeNet, "text": MLP})
    with pytest.raises(ValueError, match=r"modalities \['image', 'type'\], found \['image'\]$"):
        LateFusion(SHAPES, {"image": LeNet})


def test_data_of_one_modality() -> None:
    with pytest.raises(ValueError, match=r"^input_shape: LateFusion reads dicts of modalities, found \(1, 16, 16\)$"):
        LateFusion((1, 16, 16), PARTS)
