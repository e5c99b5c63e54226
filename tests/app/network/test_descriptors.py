"""Descriptions of tasks from a file, and of rows from a modality of the inputs."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from partition import gradients
from schemes import BACKBONES, LAYOUTS, SHAPE, TARGETS, TASKS, batch_of, losses_of
from torch import Tensor, nn
from torchjd.aggregation import UPGrad

from app.balancing import GradientConfig, Parameters, Update
from app.network.cost import and_of_hard_sharing
from app.network.network import Network
from app.training.step import TrainingStep
from datamodules.batch import MultiTaskBatch
from models.backbones import MLP, LateFusion, LeNet
from models.backbones.part import BackboneBuilder
from models.errors import ConfigurationError
from models.sharing import Conditioned

WIDTH = 4
GIVEN = {"kind": [1, 0.5], "size": [0, 1], "alive": [1, 1]}


def network_of(backbone: str, **options: Any) -> Network:
    """Of images, and of features that describe the rows."""
    torch.manual_seed(0)
    scheme = partial(Conditioned, modality="features", **options)
    return Network(TARGETS, {"image": SHAPE, "features": (WIDTH,)}, BACKBONES[backbone], scheme).double()


def batch_with_features(layout: str) -> MultiTaskBatch:
    batch = batch_of(layout)
    assert isinstance(batch.inputs, Tensor)
    features = torch.randn(len(batch.ids), WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    batch.inputs = {"image": batch.inputs, "features": features}
    return batch


def moved(network: Network) -> Network:
    """Away from the zeros that the changes begin with."""
    for change in network.sharing.changes.values():
        nn.init.normal_(change.linear.weight, std=0.3)
    return network


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("backbone", "after"), [("mlp", ["input", 1]), ("resnet", ["input", 0, -1]), ("vit", [0, -1])])
def test_rows_that_are_described_share_everything(backbone: str, after: list, layout: str) -> None:
    network, batch = moved(network_of(backbone, after=after)), batch_with_features(layout)
    losses, shared = losses_of(network, batch), network.shared_parameters()
    assert {id(p) for p in shared} == {id(p) for p in network.sharing.parameters()}
    by_task = {task: gradients(losses[task], shared) for task in TASKS}
    assert all(sum(g is not None for g in each) >= 2 for each in zip(*by_task.values(), strict=True))
    for task in TASKS:
        own = network.task_parameters(task)
        assert own == list(network.heads[task].parameters())
        assert all(gradient is not None for gradient in gradients(losses[task], own))
        assert all(g is None for other in {*TASKS} - {task} for g in gradients(losses[other], own))
    rows = [torch.cat([g.flatten() for g in each]) for each in by_task.values()]
    expected = UPGrad()(torch.stack(rows)).split([p.numel() for p in shared])
    network = moved(network_of(backbone, after=after))
    step, shared = TrainingStep(network.weights), network.shared_parameters()
    step.take(batch, losses_of(network, batch), first=True, device=torch.device("cpu"))
    step.end()
    micro_batch = step.micro_batch(number=0, epoch=0, of=1, ends=True, rows=batch.rows, size=len(batch.ids))
    parameters = Parameters(shared, [network.task_parameters(task) for task in TASKS], [])
    balancing = Update(UPGrad(), GradientConfig(), len(TASKS), network.shared_features)
    balancing.backward(step.release(), torch.ones((), dtype=torch.float64), micro_batch, parameters)
    for parameter, gradient in zip(shared, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient.view_as(parameter), rtol=0, atol=1e-12)


@pytest.mark.parametrize("by", ["film", "add"])
@pytest.mark.parametrize("backbone", ["mlp", "resnet"])
def test_a_row_is_scaled_and_shifted_by_its_own_description(by: str, backbone: str) -> None:
    """H ⊙ (1 + V_γ z) + V_β z of each row; every row alone gives what the batch gives."""
    network, batch = moved(network_of(backbone, by=by, after=[0])).eval(), batch_with_features("multi-input")
    sharing, (image, z) = network.sharing, batch.inputs.values()
    found = sharing(batch.inputs, batch.rows)
    stages, linear = sharing.backbone.stages, sharing.changes["0"].linear
    h = stages[0](image)
    parts = (z @ linear.weight.T).view(len(z), -1, h.shape[1])
    *scale, shift = (each.view(*each.shape, *[1] * (h.ndim - 2)) for each in parts.unbind(1))
    x = h * (1 + scale[0]) + shift if scale else h + shift
    for task, own in batch.rows.items():
        torch.testing.assert_close(found[task][0], x[own])
        for row, feature in zip(own, found[task][-1], strict=True):
            alone = {name: each[row : row + 1] for name, each in batch.inputs.items()}
            torch.testing.assert_close(sharing(alone, {task: torch.zeros(1, dtype=torch.int64)})[task][-1][0], feature)


def test_cost_is_against_a_network_that_sees_what_the_backbone_sees() -> None:
    own, hard = and_of_hard_sharing(network_of("mlp", after=[0]).float(), torch.ones(len(TARGETS), 4, dtype=torch.bool))
    assert own == hard + 2 * WIDTH * 8  # a scale and a shift of each of eight channels


def test_backbone_sees_the_other_modalities() -> None:
    fusion = partial(LateFusion, backbones={"image": partial(LeNet, widths=(4,)), "sound": partial(MLP, hidden=(3,))})
    shapes = {"image": SHAPE, "user": (2,), "sound": (5,)}
    network = Network(TARGETS, shapes, fusion, partial(Conditioned, modality="user"))
    assert {*network.sharing.backbone.joined.backbones} == {"image", "sound"}
    inputs = {name: torch.randn(2, *shape) for name, shape in shapes.items()}
    assert network(inputs, {"kind": torch.arange(2)})["kind"].shape == (2, 3)
    alone = Network(
        TARGETS, {"user": (2,), "words": (5,)}, partial(MLP, hidden=(3,)), partial(Conditioned, modality="user")
    )
    assert alone.sharing.backbone.stages[0][1].in_features == 5


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_descriptions_in_a_file_are_those_of_the_configuration(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"z.{ending}"
    path.write_text(yaml.safe_dump(GIVEN) if ending == "yaml" else json.dumps(GIVEN))
    build = BackboneBuilder(BACKBONES["mlp"], SHAPE)
    sharing = Conditioned(build, TASKS, descriptor=str(path), width=2)
    for task, numbers in GIVEN.items():
        assert sharing.described[task].values.tolist() == numbers
        assert sharing.task_parameters(task) == []
    assert {name for name, _ in sharing.named_buffers()} == {f"described.{task}.values" for task in TASKS}


@pytest.mark.parametrize(
    ("content", "width", "line"),
    [
        (
            None,
            2,
            "descriptor: must be one_hot, learned, task → numbers, or a YAML or JSON file of these, found 'z.yaml'",
        ),
        ("{", 2, "descriptor: must be one_hot, learned, .* found 'z.yaml', which is no YAML"),
        ("[1, 2]", 2, "descriptor: must be one_hot, learned, .* found 'z.yaml', which has a list"),
        (json.dumps({"kind": [1], "sise": [2]}), 1, r"descriptor: must be of the tasks .*, found \['kind', 'sise'\]"),
        (
            json.dumps({**GIVEN, "size": [1]}),
            2,
            "descriptor: must have as many .*, found {'kind': 2, 'size': 1, 'alive': 2}",
        ),
        (
            json.dumps({**GIVEN, "size": ["1", 2]}),
            2,
            r"descriptor\.size: must be a list of finite numbers, found \['1', 2\]",
        ),
        ("{kind: [1, .nan], size: [0, 1], alive: [1, 1]}", 2, r"descriptor\.kind: must be a list of finite numbers"),
        (json.dumps(GIVEN), 3, "width: must be that of the numbers in 'z.yaml', 2, found 3"),
    ],
)
def test_bad_file_is_one_line(
    content: str | None, width: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("z.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=rf"^model\.sharing\.{line}"):
        Conditioned(BackboneBuilder(BACKBONES["mlp"], SHAPE), TASKS, descriptor="z.yaml", width=width)


@pytest.mark.parametrize(
    ("shape", "options", "line"),
    [
        (
            {"image": SHAPE, "user": (2,)},
            {"modality": "usr"},
            "must be among the inputs' modalities ['image', 'user'], found 'usr'",
        ),
        (SHAPE, {"modality": "user"}, "needs inputs of several modalities, found (3, 32, 32)"),
        (
            {"image": SHAPE, "user": (2,)},
            {"modality": "image"},
            "must have rows of numbers, found 'image' of shape (3, 32, 32)",
        ),
        (
            {"image": SHAPE, "user": (2,)},
            {"modality": "user", "descriptor": "learned"},
            "takes the place of model.sharing.descriptor, found 'user' beside learned",
        ),
    ],
)
def test_bad_modality_is_one_line(shape: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'model.sharing.modality: {line}')}$"):
        Conditioned(BackboneBuilder(BACKBONES["mlp"], shape), TASKS, **options)
