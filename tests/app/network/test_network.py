"""The network as a plain module, and its training step, without Lightning."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import nn

from app.balancing import FixedWeights, GradientConfig, Parameters, Update
from app.network.network import Network
from app.tasks import TaskConfig
from app.training.step import TrainingStep
from datamodules.batch import MultiTaskBatch
from datamodules.targets import Binary, Categorical, Continuous
from models.backbones import MLP, Backbone, LateFusion, LeNet, Projected
from models.heads import Head
from models.sharing import IndependentNetworks

TARGETS = {"kind": Categorical(("a", "b", "c")), "size": Continuous(), "alive": Binary(("no", "yes"))}
SMALL = partial(LeNet, widths=(4, 8), kernel_size=3, padding=1, features=16)


def batch(rows: int = 6) -> MultiTaskBatch:
    draw = torch.Generator().manual_seed(0)
    labels = {"kind": torch.tensor([0, 2, 1, 0]), "size": torch.rand(3, generator=draw)}
    chosen = {"kind": torch.tensor([0, 1, 3, 5]), "size": torch.tensor([2, 3, 4])}
    counts = {"kind": 4, "size": 3, "alive": 0}
    return MultiTaskBatch(torch.rand(rows, 1, 12, 12, generator=draw), labels, chosen, counts, torch.arange(rows))


def test_it_gives_each_task_its_rows_and_losses() -> None:
    network, given = Network(TARGETS, (1, 12, 12), SMALL), batch()
    outputs = network(given.inputs, given.rows)
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {"kind": (4, 3), "size": (3, 1)}
    losses = network.losses(given, outputs)
    expected = nn.functional.cross_entropy(outputs["kind"], given.targets["kind"], reduction="sum")
    torch.testing.assert_close(losses["kind"], expected)
    assert list(losses) == ["kind", "size"]


def test_it_says_whose_parameters_are_whose() -> None:
    network = Network(TARGETS, (1, 12, 12), SMALL)
    parts = [network.shared_parameters(), *(network.task_parameters(name) for name in TARGETS)]
    found = [id(parameter) for part in parts for parameter in part]
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())
    assert list(network.layers) == [
        "backbone.stage0",
        "backbone.stage1",
        "backbone.stage2",
        *(f"heads.{n}" for n in TARGETS),
    ]


def test_a_step_of_one_batch_is_the_plain_sum_of_the_mean_losses() -> None:
    network, given = Network(TARGETS, (1, 12, 12), SMALL, tasks={"size": TaskConfig(weight=0.5)}), batch()
    outputs = network(given.inputs, given.rows)
    means = {name: total / given.counts[name] for name, total in network.losses(given, outputs).items()}
    step = TrainingStep(network.weights)
    total = step.take(given, means, first=True, device=torch.device("cpu"))
    assert torch.equal(total.detach(), (means["kind"] + 0.5 * means["size"]).detach())
    expected = torch.autograd.grad(total, list(network.sharing.parameters()), retain_graph=True)
    update = Update(FixedWeights(), GradientConfig(), len(TARGETS), network.shared_features)
    step.end()
    micro_batch = step.micro_batch(number=0, epoch=0, of=1, ends=True, rows=given.rows, size=6)
    assert micro_batch.step.present.tolist() == [0, 1]
    own = [network.task_parameters(name) for name in TARGETS]
    parameters = Parameters(network.shared_parameters(), own, network.sharing.compared_weights())
    update.backward(step.release(), torch.ones(()), micro_batch, parameters)
    for parameter, gradient in zip(network.sharing.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert all(parameter.grad is None for parameter in network.task_parameters("alive"))
    assert step.by_task() == {name: means[name].item() for name in means}


def test_the_dry_step_leaves_no_trace() -> None:
    """Nothing is drawn, no statistic moves, no gradient is there, no mode has changed."""
    torch.manual_seed(0)
    first = Network(TARGETS, (1, 12, 12), partial(Normed, seen=(seen := [])))
    after = torch.rand(())
    torch.manual_seed(0)
    Normed((1, 12, 12), []), [head for head in first.heads.values()]
    assert seen == [2]  # rows of the one blank batch
    assert all(parameter.grad is None for parameter in first.parameters())
    assert first.sharing.backbone.norm.num_batches_tracked == 0
    assert torch.equal(first.sharing.backbone.norm.running_mean, torch.zeros(1))
    assert all(module.training for module in first.modules())
    torch.manual_seed(0)
    Network(TARGETS, (1, 12, 12), partial(Normed, seen=[]))
    assert torch.equal(torch.rand(()), after)


class Normed(Backbone):
    """With all that a forward pass leaves behind: statistics and random numbers."""

    def __init__(self, input_shape: tuple[int, ...], seen: list[int]) -> None:
        super().__init__()
        self.norm, self.linear, self.seen = nn.BatchNorm2d(1), nn.Linear(144, 5), seen
        self.channels = [5]

    @property
    def stages(self) -> list[nn.Module]:
        return [nn.Sequential(self.norm, nn.Dropout(0.5), nn.Flatten(), self.linear)]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.seen.append(len(x))
        return super().forward(x + 1)


class Words(Backbone):
    """Reads indices."""

    input_dtype = torch.int64

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.embedding, self.channels = nn.EmbeddingBag(7, 4), [4]

    @property
    def stages(self) -> list[nn.Module]:
        return [self.embedding]


@pytest.mark.parametrize("sharing", [None, IndependentNetworks])
def test_a_backbone_that_reads_indices_and_one_of_several_modalities(sharing: type | None) -> None:
    options = {"sharing": sharing} if sharing else {}
    network = Network(TARGETS, (5,), Words, **options)
    assert network(torch.zeros(2, 5, dtype=torch.int64), {"kind": torch.arange(2)})["kind"].shape == (2, 3)
    fusion = partial(LateFusion, backbones={"words": Words, "numbers": partial(MLP, hidden=(3,))})
    network = Network(TARGETS, {"words": (5,), "numbers": (2,)}, fusion, **options)
    assert network.sharing.training


def test_a_backbone_around_one_of_several_modalities() -> None:
    fusion = partial(LateFusion, backbones={"words": Words, "numbers": partial(MLP, hidden=(3,))})
    network = Network(TARGETS, {"words": (5,), "numbers": (2,)}, partial(Projected, backbone=fusion, features=6))
    inputs = {"words": torch.zeros(2, 5, dtype=torch.int64), "numbers": torch.zeros(2, 2)}
    assert network(inputs, {"kind": torch.arange(2)})["kind"].shape == (2, 3)


class NormedHead(Head):
    def __init__(self, channels: list[int], outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(channels[-1]), nn.Linear(channels[-1], outputs))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.layers(features[-1])


def test_a_head_with_batch_normalisation_takes_one_row() -> None:
    network = Network(TARGETS, (1, 12, 12), SMALL, head=NormedHead)
    outputs = network(torch.rand(3, 1, 12, 12), {"kind": torch.tensor([1]), "size": torch.arange(3)})
    assert outputs["kind"].shape == (1, 3)
    assert torch.equal(network.heads["kind"].layers[0].running_mean, torch.zeros(16))


def test_the_last_shared_layer_of_several_modalities_is_one_of_each() -> None:
    fusion = partial(LateFusion, backbones={"words": Words, "numbers": partial(MLP, hidden=(3, 4))})
    sharing = Network(TARGETS, {"words": (5,), "numbers": (2,)}, fusion).sharing
    assert [tuple(weight.shape) for weight in sharing.compared_weights()] == [(7, 4), (4, 3)]
