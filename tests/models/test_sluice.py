"""Sluice networks: their formulas by hand, what they are equal to at the ends of their range, and what is refused."""

import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from app.network.network import Network
from datamodules.targets import DenseCategorical, DenseContinuous
from models.backbones import MLP, BackboneBuilder, LateFusion, LeNet, TimmBackbone
from models.errors import ConfigurationError
from models.heads import UpsamplingHead
from models.sharing import CrossStitch, IndependentNetworks, Sluice

TASKS = ["left", "right", "train"]
ROWS = {"left": torch.arange(4), "train": torch.tensor([1, 3])}
STACK = BackboneBuilder(partial(MLP, hidden=(8, 4, 6)), (6,))
LENET = BackboneBuilder(partial(LeNet, widths=(4, 6), kernel_size=3, padding=1, features=8), (1, 8, 8))
RESNET = BackboneBuilder(partial(TimmBackbone, name="test_resnet"), (3, 32, 32))
VIT = BackboneBuilder(partial(TimmBackbone, name="test_vit"), (3, 32, 32))


def build(scheme: Any, backbone: BackboneBuilder = STACK, **options: Any) -> Any:
    torch.manual_seed(0)
    return scheme(backbone, TASKS, **options).double()


def inputs(backbone: BackboneBuilder = STACK) -> Tensor:
    return torch.randn(4, *backbone.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("backbone", [STACK, LENET, RESNET, VIT], ids=["stack", "lenet", "resnet", "vit"])
def test_what_reads_itself_alone_is_an_independent_network(backbone: BackboneBuilder) -> None:
    """With α = I and β on the last stage; in evaluation, as each network normalises its own rows alone."""
    sharing, alone = build(Sluice, backbone, same=1.0, last=1.0).eval(), build(IndependentNetworks, backbone).eval()
    expected = alone(inputs(backbone), ROWS)
    for task, features in sharing(inputs(backbone), ROWS).items():
        assert len(features) == len(expected[task])
        for found, wanted in zip(features, expected[task], strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_one_subspace_and_the_last_stage_are_cross_stitch() -> None:
    one, other = build(Sluice, subspaces=1, last=1.0), build(CrossStitch)
    expected = other(inputs(), ROWS)
    for task, features in one(inputs(), ROWS).items():
        torch.testing.assert_close(list(features), list(expected[task]), rtol=0, atol=1e-12)


def test_sluice_by_hand() -> None:
    """x̃_ts = Σ_t's' α_ts,t's' x_t's' after each stage, and Σ_l β_tl P_tl(x̃_tl) at the end."""
    sharing = build(Sluice)
    for parameter in [p for each in sharing.mixing_weights().values() for p in each]:
        torch.nn.init.normal_(parameter)
    x, mixed = dict.fromkeys(TASKS, inputs()), []
    for stage, width in enumerate((8, 4, 6)):
        seen = {task: sharing.networks[task].stages[stage](x[task]) for task in TASKS}
        parts = [seen[task][:, half : half + width // 2] for task in TASKS for half in (0, width // 2)]
        alpha = {task: sharing.units[str(stage)].alpha[task].values for task in TASKS}
        assert all(values.shape == (2, 6) for values in alpha.values())
        x = {
            task: torch.cat([sum(alpha[task][s, i] * part for i, part in enumerate(parts)) for s in range(2)], dim=1)
            for task in TASKS
        }
        mixed.append(x)
    for task, features in sharing(inputs(), ROWS).items():
        first, second, third = (x[task][ROWS[task]] for x in mixed)
        torch.testing.assert_close([features[0], features[1]], [first, second])
        output = sharing.outputs[task]
        low, high = (projection.weight for projection in output.projections)
        beta = output.beta.values
        torch.testing.assert_close(features[2], beta[0] * first @ low.T + beta[1] * second @ high.T + beta[2] * third)


@pytest.mark.parametrize("backbone", [RESNET, VIT], ids=["maps", "tokens"])
def test_subspaces_are_of_channels_and_lower_stages_are_pooled(backbone: BackboneBuilder) -> None:
    """With α that swaps the halves of a task's own channels; β begins with 0.1 / (K − 1) of each lower stage."""
    sharing, x = build(Sluice, backbone, last=0.9).eval(), inputs(backbone)
    for unit in sharing.units.values():
        for place, task in enumerate(TASKS):
            own = torch.zeros(2, 6, dtype=torch.float64)
            own[0, 2 * place + 1] = own[1, 2 * place] = 1.0
            unit.alpha[task].values.data = own
    network, places = sharing.networks["left"], list(sharing.units)
    features, total = [], 0
    for stage, channels in zip(network.stages, network.channels, strict=True):
        x = stage(x)
        if str(len(features)) in places:
            along = 1 if x.ndim == 4 else -1
            x = x.roll(channels // 2, dims=along)
        features.append(x)
    output = sharing.outputs["left"]
    assert output.beta.values.tolist() == pytest.approx([0.1 / (len(places) - 1)] * (len(places) - 1) + [0.9])
    for beta, project, place in zip(output.beta.values[:-1], output.projections, places[:-1], strict=True):
        feature = features[int(place)]
        mean = feature.mean(dim=(2, 3)) if feature.ndim == 4 else feature.mean(dim=1)
        total = total + beta * project(mean)
    expected = [*features[:-1], total + 0.9 * features[-1]]
    torch.testing.assert_close(list(sharing(inputs(backbone), ROWS)["left"]), expected)


def test_subspaces_begin_as_they_are_told() -> None:
    sharing = build(Sluice, same=0.7)
    for unit in sharing.units.values():
        every = torch.cat([unit.alpha[task].values for task in TASKS])
        assert every.diagonal().tolist() == pytest.approx([0.7] * 6)
        assert every.sum(dim=1).tolist() == pytest.approx([1.0] * 6)
        assert every[0, 1:].unique().numel() == 1
    alone = Sluice(STACK, ["only"], subspaces=1)
    assert [p.tolist() for p in alone.mixing_weights()["alpha"]] == [[[1.0]]] * 3


def test_penalty_by_hand() -> None:
    """Σ_tl ‖W_tl1ᵀ W_tl2‖_F² of the columns of inputs × outputs that write a subspace; all pairs of more than two."""
    sharing = build(Sluice, strength=0.5)
    weights = [layer[1].weight.T for net in sharing.networks.values() for layer in net.layers]
    expected = sum((w[:, : w.shape[1] // 2].T @ w[:, w.shape[1] // 2 :]).square().sum() for w in weights)
    torch.testing.assert_close(sharing.penalty(), 0.5 * expected)
    backbone = BackboneBuilder(partial(MLP, hidden=(6,)), (6,))
    one = Sluice(backbone, ["only"], subspaces=3, strength=2.0)
    a, b, c = one.networks["only"].layers[0][1].weight.split(2)
    pairs = [(a @ b.T).square().sum(), (a @ c.T).square().sum(), (b @ c.T).square().sum()]
    torch.testing.assert_close(one.penalty(), 2.0 * sum(pairs))
    assert sharing.has_penalty
    assert one.has_penalty
    assert not build(Sluice, strength=0.0).has_penalty
    assert not build(Sluice, subspaces=1).has_penalty


def test_last_weight_of_a_stage_that_writes_its_channels_is_penalised() -> None:
    sharing = build(Sluice, VIT, strength=1.0)
    nets = sharing.networks.values()
    stem = [net.net.patch_embed.proj.weight for net in nets]
    blocks = [net.net.blocks[last].mlp.fc2.weight for net in nets for last in (0, 2, 3, 5)]
    halves = [weight.flatten(1).chunk(2) for weight in [*stem, *blocks]]
    torch.testing.assert_close(sharing.penalty(), sum((w @ v.T).square().sum() for w, v in halves))


def test_several_modalities() -> None:
    fusion = partial(LateFusion, backbones={"image": partial(LeNet, kernel_size=3, widths=(2,)), "row": MLP})
    sharing = Sluice(BackboneBuilder(fusion, {"image": (1, 8, 8), "row": (3,)}), TASKS)
    features = sharing({"image": torch.randn(4, 1, 8, 8), "row": torch.randn(4, 3)}, ROWS)
    assert features["train"][-1].shape == (2, sharing.channels["train"][-1])


def test_heads_that_do_not_read_the_embedding_are_refused() -> None:
    targets = {"objects": DenseCategorical(("a", "b")), "depth": DenseContinuous()}
    line = (
        "model.sharing: a parameter of Sluice must be reached by task 'objects', whose own it is, found outputs.objects"
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}"):
        Network(targets, RESNET.input_shape, RESNET.make, Sluice, head=UpsamplingHead)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"subspaces": 3},
            "model.sharing.subspaces: must divide the channels of every stage, of which stage 0 has 8, found 3",
        ),
        ({"subspaces": 0}, "model.sharing.subspaces: must be at least 1, found [0]"),
        ({"same": 1.5}, "model.sharing.same: must be in [0, 1], found 1.5"),
        ({"last": -0.1}, "model.sharing.last: must be in [0, 1], found -0.1"),
        ({"strength": -1.0}, "model.sharing.strength: must be finite and not negative, found -1.0"),
        ({"strength": float("nan")}, "model.sharing.strength: must be finite and not negative, found nan"),
        ({"rate": 0.0}, "model.sharing.rate: must be greater than 0, found 0.0"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}$"):
        build(Sluice, **options)
