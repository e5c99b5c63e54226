"""Some of a backbone's stages: they give what the whole one's do, and have nothing of the others."""

from functools import partial

import pytest
import torch

from models.backbones import MLP, BackboneBuilder, BackbonePart, LeNet, TimmBackbone

LENET = BackboneBuilder(partial(LeNet, widths=(4, 6), kernel_size=3, padding=1, features=5), (1, 8, 8))
STACK = BackboneBuilder(partial(MLP, hidden=(5, 4, 3)), (6,))


@pytest.mark.parametrize(
    ("backbone", "first", "last"),
    [
        (STACK, 0, 2),
        (STACK, 1, None),
        (LENET, 2, None),
        (BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32)), 2, None),
        (BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32)), 0, 2),
        (BackboneBuilder(partial(TimmBackbone, name="test_vit"), (3, 32, 32)), 0, 2),
        (BackboneBuilder(partial(TimmBackbone, name="test_vit"), (3, 32, 32)), 2, None),
    ],
)
def test_part_of_a_backbone_is_its_stages(backbone: BackboneBuilder, first: int, last: int | None) -> None:
    torch.manual_seed(0)
    whole = backbone().eval()
    torch.manual_seed(0)
    part = backbone.part(first, last).eval()
    assert isinstance(part, BackbonePart)
    x = torch.randn(2, *backbone.input_shape)
    for stage in whole.stages[:first]:
        x = stage(x)
    features = part(x)
    assert [feature.shape[1 if feature.ndim == 4 else -1] for feature in features] == part.channels
    for stage, feature in zip(whole.stages[first:last], features, strict=True):
        x = stage(x)
        torch.testing.assert_close(feature, x)
    torch.stack([feature.square().mean() for feature in features]).sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    parts = [backbone.part(0, first)] * bool(first) + [part] + [backbone.part(last)] * (last is not None)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (whole, *parts)]
    assert sizes[0] == sum(sizes[1:])
    grouped = [name for names in part.layer_groups().values() for name in names]
    assert sorted(grouped) == sorted(name for name, _ in part.named_parameters())
