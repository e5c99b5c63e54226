"""Heads that predict a number a pixel."""

from functools import partial

import pytest
import torch

from models.backbones import LeNet, TimmBackbone
from models.heads import DeepLabHead, DenseHead, UpsamplingHead

SIZE = (32, 48)
BACKBONES = {
    "lenet": partial(LeNet, widths=(4, 6)),
    "resnet": partial(TimmBackbone, name="resnet10t"),
    "swin": partial(TimmBackbone, name="swin_tiny_patch4_window7_224"),  # its maps have the channels last
    "vit": partial(TimmBackbone, name="vit_tiny_patch16_224"),  # tokens, one of them of the class
}
heads = pytest.mark.parametrize(
    "build", [partial(UpsamplingHead, width=8), partial(DeepLabHead, width=8)], ids=["upsampling", "deeplab"]
)


def build_on(build, channels: list[int], outputs: int, size: tuple[int, int] = SIZE) -> DenseHead:
    head = build(channels, outputs)
    head.size = size
    return head


@heads
@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_of_stages(build, name: str) -> None:
    torch.manual_seed(0)
    size = (64, 64) if name == "swin" else SIZE
    backbone = BACKBONES[name]((3, *size)).eval()
    head = build_on(build, backbone.channels, 5, size)
    prediction = head(backbone(torch.randn(3, 3, *size)))
    assert prediction.shape == (3, 5, *size)
    prediction.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


@heads
def test_a_row_is_predicted_alike_in_any_company(build) -> None:
    torch.manual_seed(0)
    head = build_on(build, [4, 6, 8], 2).double().train()
    features = [torch.randn(3, 4, 16, 24).double(), torch.randn(3, 6, 8, 12).double(), torch.randn(3, 8).double()]
    alone = head([feature[1:2] for feature in features])
    torch.testing.assert_close(head(features)[1:2], alone, rtol=1e-12, atol=1e-12)


@heads
def test_one_row_of_one_pixel_a_map(build) -> None:
    """As of a small image under a deep network, where a batch normalisation would fail."""
    head = build_on(build, [4, 6, 8], 2)
    assert head([torch.randn(1, 4, 1, 1), torch.randn(1, 6, 1, 1), torch.randn(1, 8)]).isfinite().all()


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_lie_on_the_grid_row_by_row(prefix: int) -> None:
    class Same(DenseHead):
        def decode(self, features):
            return self.map(features, 0)

    head = Same()
    head.size = (224, 336)
    image = torch.randn(2, 3, 16, 24)
    tokens = torch.cat([torch.full((2, prefix, 3), 9.0), image.flatten(2).mT], dim=1)
    torch.testing.assert_close(head.map([tokens], 0), image)


def test_the_lower_maps_are_read_down_to_the_one_that_is_named() -> None:
    features = [torch.randn(2, 4, 16, 24), torch.randn(2, 6, 8, 12), torch.randn(2, 8, 4, 6), torch.randn(2, 9)]
    for lowest in (0, 1, -2):
        head = build_on(partial(UpsamplingHead, width=8, lowest=lowest), [4, 6, 8, 9], 2)
        for feature in features:
            feature.requires_grad_().grad = None
        head(features).sum().backward()
        read = [feature.grad is not None for feature in features]
        assert read == [stage >= lowest % 4 and stage < 3 for stage in range(4)]


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"^head\.lowest: a dense head reads a stage below the last one of the "
                       r"backbone's 3, found 2$"):  # fmt: skip
        UpsamplingHead([1, 2, 3], 1, lowest=2)
    with pytest.raises(ValueError, match=r"^head\.low: .* found 5$"):
        DeepLabHead([1, 2, 3], 1, low=5)
    with pytest.raises(ValueError, match=r"backbone's 1, found 0$"):
        UpsamplingHead([64], 1)
    with pytest.raises(ValueError, match=r"^a dense head needs stages of maps .* found stage 1 of shape \['B', 6\]$"):
        build_on(partial(UpsamplingHead, width=8), [4, 6, 8], 1)([torch.randn(2, n) for n in (4, 6, 8)])
