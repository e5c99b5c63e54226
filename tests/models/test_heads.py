"""Heads read the stage that they name."""

import pytest
import torch
from torch import Tensor

from models.backbones import LeNet, TimmBackbone
from models.heads import LinearHead, MLPHead, pooled

heads = pytest.mark.parametrize("kind", [LinearHead, MLPHead])


def test_pooled() -> None:
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pooled(x), x.flatten(2).mean(2))
    torch.testing.assert_close(pooled(x[..., 0]), x[..., 0].sum(1) / 3)
    torch.testing.assert_close(pooled(x[..., 0, 0]), x[..., 0, 0])


@heads
@pytest.mark.parametrize("stage", [-3, -1, 0, 1, 2])
def test_a_head_reaches_the_stages_below_its_own_only(kind: type, stage: int) -> None:
    torch.manual_seed(0)
    backbone = LeNet((1, 16, 16))
    head = kind(backbone.channels, 4, stage=stage)
    prediction = head(backbone(torch.randn(5, 1, 16, 16)))
    assert prediction.shape == (5, 4)
    prediction.square().sum().backward()
    reached = [all(p.grad is not None for p in layer.parameters()) for layer in backbone.stages]
    assert reached == [i <= stage % 3 for i in range(3)]
    assert all(p.grad.any() for p in head.parameters())


def test_linear_head_is_linear_in_the_mean_of_a_map() -> None:
    head, feature = LinearHead([3, 7], 2, stage=0), torch.randn(5, 3, 4, 4)
    weight, bias = head.parameters()
    torch.testing.assert_close(head([feature, torch.randn(5, 7)]), feature.mean((2, 3)) @ weight.T + bias)


def test_hidden_layers() -> None:
    head = MLPHead([3, 7], 2, hidden=[5, 4])
    assert [tuple(p.shape) for p in head.parameters()] == [(5, 7), (5,), (4, 5), (4,), (2, 4), (2,)]
    assert [tuple(p.shape) for p in MLPHead([3, 7], 2, hidden=[]).parameters()] == [(2, 7), (2,)]


@heads
def test_dropout_acts_in_training_alone(kind: type) -> None:
    torch.manual_seed(0)
    head, features = kind([8], 3, dropout=0.5), [torch.randn(4, 8)]
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


@heads
def test_tokens_of_a_transformer(kind: type) -> None:
    backbone = TimmBackbone((3, 32, 32), "vit_tiny_patch16_224")
    head = kind(backbone.channels, 4, stage=1)
    assert head(backbone(torch.randn(2, 3, 32, 32))).shape == (2, 4)


@heads
@pytest.mark.parametrize("stage", [3, -4])
def test_stage_outside_the_backbone(kind: type, stage: int) -> None:
    with pytest.raises(ValueError, match=rf"^head\.stage: the backbone has 3 stages, found {stage}$"):
        kind([1, 2, 3], 4, stage=stage)


def test_features_are_read_once() -> None:
    """A head asks for its own stage alone: with hard sharing, only that one is gathered."""

    class Asked(list[Tensor]):
        stages: list[int] = []  # noqa: RUF012

        def __getitem__(self, stage):
            self.stages.append(stage)
            return super().__getitem__(stage)

    LinearHead([3, 7], 2, stage=0)(Asked([torch.randn(5, 3), torch.randn(5, 7)]))
    assert Asked.stages == [0]
