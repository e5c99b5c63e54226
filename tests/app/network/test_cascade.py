"""Heads that read other tasks' predictions."""

from functools import partial
from pathlib import Path

import pytest
import torch
from partition import assert_exact_update, assert_partition, gradients
from schemes import BACKBONES, LAYOUTS, SCHEMES, SHAPE, TARGETS, TASKS, batch_of, losses_of
from torch import Tensor

from app.balancing import GradientConfig
from app.exports.exporting import Exported
from app.exports.graphs import write_onnx, write_torch
from app.network.network import Network
from app.tasks import TaskConfig
from app.training.supported import check_level
from datamodules.targets import Categorical, DenseCategorical
from models.errors import ConfigurationError
from models.heads import LinearHead, MLPHead, ReadingHead

FAST = [("mlp", "partial"), ("mlp", "single input"), ("resnet", "multi-input")]
READABLE = ["hard", "hard, statistics by task", "mmoe", "dselect-k", "cross-stitch", "film", "independent", "cgc"]


def chain(detached: bool = True) -> dict[str, TaskConfig]:
    """The size reads the kind, and whether it is alive reads both."""
    reading = partial(TaskConfig, embedding=4, detached=detached)
    return {"size": reading(reads=["kind"]), "alive": reading(reads=["kind", "size"])}


def cascade(scheme: str, backbone: str, tasks: dict[str, TaskConfig]) -> Network:
    torch.manual_seed(0)
    return Network(TARGETS, SHAPE, BACKBONES[backbone], SCHEMES[scheme], tasks=tasks).double()


every_case = pytest.mark.parametrize(
    ("scheme", "backbone", "layout", "detached"),
    [
        pytest.param(s, b, layout, detached, marks=[] if (b, layout) in FAST else pytest.mark.slow)
        for s in READABLE
        for b in BACKBONES
        for layout in LAYOUTS
        for detached in (True, False)
    ],
)


@every_case
def test_what_is_read_with_its_gradient_is_shared_and_else_own(
    scheme: str, backbone: str, layout: str, detached: bool
) -> None:
    network, batch = cascade(scheme, backbone, chain(detached)), batch_of(layout)
    assert_partition(network, batch)
    shared = network.shared_parameters()
    heads = {task: {id(p) for p in network.heads[task].parameters()} for task in TASKS}
    assert {task for task in TASKS if heads[task] <= {*map(id, shared)}} == (set() if detached else {"kind", "size"})


@every_case
def test_update_is_that_of_the_whole_jacobian(scheme: str, backbone: str, layout: str, detached: bool) -> None:
    assert_exact_update(partial(cascade, scheme, backbone, chain(detached)), batch_of(layout))


def test_head_sees_features_and_labels_weighed_by_probabilities() -> None:
    """[h; Σ_c p(c) ℓ_c], of the reading task's own rows; a number multiplies one ℓ."""
    network, batch = cascade("hard", "mlp", chain()), batch_of("multi-input")
    outputs = network(batch.inputs, batch.rows)
    features, rows = network.sharing.backbone(batch.inputs)[-1], batch.rows["alive"]
    kind, size, alive = (network.heads[task] for task in TASKS)
    assert isinstance(size, ReadingHead)
    assert isinstance(alive, ReadingHead)
    h = features[rows]
    p = kind([h]).softmax(dim=1)
    embedded = sum(p[:, [c]] * size.labels["kind"].weight[:, c] for c in range(3))
    value = size.head.layers(torch.cat([h, embedded], dim=1))
    about = [
        sum(p[:, [c]] * alive.labels["kind"].weight[:, c] for c in range(3)),
        value * alive.labels["size"].weight[:, 0],
    ]
    torch.testing.assert_close(outputs["alive"], alive.head.layers(torch.cat([h, *about], dim=1)))


@pytest.mark.parametrize("scheme", READABLE)
def test_evaluation_and_prediction_are_alike(scheme: str) -> None:
    """Rows of tasks that are the same are asked for once; other rows anew."""
    network = cascade(scheme, "resnet", chain()).eval()
    batch, everything = batch_of("partial"), torch.arange(8)
    whole = network(batch.inputs, dict.fromkeys(TASKS, everything))
    assert list(whole) == TASKS
    for task, found in network(batch.inputs, batch.rows).items():
        torch.testing.assert_close(found, whole[task][batch.rows[task]])
    alone = network(batch.inputs, {"alive": torch.tensor([1])})
    torch.testing.assert_close(alone["alive"], whole["alive"][[1]])


@pytest.mark.parametrize("scheme", READABLE)
@pytest.mark.parametrize("detached", [True, False])
def test_running_statistics_and_modes_are_left_by_reading(scheme: str, detached: bool) -> None:
    read, plain, batch = cascade(scheme, "resnet", chain(detached)), cascade(scheme, "resnet", {}), batch_of("partial")
    plain.sharing.load_state_dict(read.sharing.state_dict())
    for network in (read, plain):
        network.sharing.eval()
        next(network.sharing.children()).train()
        network(batch.inputs, batch.rows)
    for ours, theirs in zip(read.sharing.modules(), plain.sharing.modules(), strict=True):
        assert ours.training == theirs.training
    for ours, theirs in zip(read.sharing.buffers(), plain.sharing.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("detached", [True, False])
def test_absent_task_is_left_as_it_is_where_it_is_read_detached(detached: bool) -> None:
    network, batch = cascade("film", "resnet", chain(detached)), batch_of("partial", without="kind")
    sum(losses_of(network, batch).values()).backward()
    own = [*network.sharing.task_parameters("kind"), *network.heads["kind"].parameters()]
    assert all((parameter.grad is None) == detached for parameter in own)


def test_gradients_are_there_under_autocast_where_the_first_task_reads_the_last() -> None:
    """Autocast keeps weights that it has cast, with the graph or without."""
    network = cascade("hard", "mlp", {"kind": TaskConfig(reads=["alive"])}).float()
    batch = batch_of("partial")
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(batch.inputs.float(), batch.rows)
        sum(output.float().square().sum() for output in outputs.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.heads.parameters())


def test_maps_and_tokens_have_labels_at_every_place() -> None:
    class First(LinearHead):
        def forward(self, features: list[Tensor]) -> Tensor:
            seen.append(features[0])
            return super().forward(features)

    head, p, seen = ReadingHead(First([5], 1), {"a": 2}, 2), torch.rand(3, 2), []
    for feature in (torch.rand(3, 3, 4, 4), torch.rand(3, 6, 3), torch.rand(3, 3)):
        head([feature], {"a": p})
    maps, tokens, vector = seen
    embedded = head.labels["a"](p)
    torch.testing.assert_close(maps[:, 3:], embedded[:, :, None, None].expand(-1, -1, 4, 4))
    torch.testing.assert_close(tokens[..., 3:], embedded[:, None].expand(-1, 6, -1))
    torch.testing.assert_close(vector[:, 3:], embedded)


@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", ["hard", "cross-stitch"])
def test_exported_graph_of_any_number_of_rows(scheme: str, format: str, tmp_path: Path) -> None:
    network = cascade(scheme, "mlp", chain()).float().eval()
    module, x = Exported(network, ["input"], modal=False).eval(), torch.randn(2, *SHAPE)
    path, names = tmp_path / "model", (["input"], TASKS)
    call = write_torch(module, (x,), path, "{}") if format == "torch" else write_onnx(module, (x,), names, path, "{}")
    for rows in (1, 7):
        x = torch.randn(rows, *SHAPE)
        for found, expected in zip(call((x,)), module(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("tasks", "line"),
    [
        (
            {"size": {"reads": ["colour"]}},
            r"tasks\.size\.reads: must be other tasks .*\['kind', 'alive'\], found \['colour'\]",
        ),
        ({"size": {"reads": ["size"]}}, r"tasks\.size\.reads: must be other tasks .*found \['size'\]"),
        (
            {"size": {"reads": ["kind", "kind"]}},
            r"tasks\.size\.reads: must name each task once, found \['kind', 'kind'\]",
        ),
        ({"size": {"reads": ["kind"], "embedding": 0}}, r"tasks\.size\.embedding: must be at least 1, found 0"),
        ({"size": {"detached": False}}, r"tasks\.size\.detached: is for a head that reads tasks, .*, found False"),
        (
            {"kind": {"reads": ["alive"]}, "size": {"reads": ["kind"]}, "alive": {"reads": ["size"]}},
            r"tasks\.kind\.reads: must not lead back to the task, found kind reads alive reads size reads kind",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(tasks: dict[str, dict], line: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^model\.{line}$"):
        cascade("hard", "mlp", {name: TaskConfig(**each) for name, each in tasks.items()})


def test_dense_task_reads_and_is_not_read() -> None:
    targets = {"scene": Categorical(("a", "b")), "pixels": DenseCategorical(("x", "y"))}
    tasks = {"pixels": TaskConfig(reads=["scene"])}
    network = Network(targets, SHAPE, BACKBONES["resnet"], tasks=tasks)
    outputs = network(torch.randn(2, *SHAPE), {task: torch.arange(2) for task in targets})
    assert outputs["pixels"].shape == (2, 2, 32, 32)
    with pytest.raises(ConfigurationError, match=r"must be other tasks with a label a row, \[\], found \['pixels'\]"):
        Network(targets, SHAPE, BACKBONES["resnet"], tasks={"scene": TaskConfig(reads=["pixels"])})


def test_features_are_no_way_to_balance_heads_that_are_read() -> None:
    config = GradientConfig(level="features")
    check_level(config, cascade("hard", "mlp", chain()))
    with pytest.raises(
        ConfigurationError, match=r"^model\.gradients\.level: .*`detached: false`, as \['kind', 'size'\]"
    ):
        check_level(config, cascade("hard", "mlp", chain(detached=False)))


def test_heads_at_chosen_stages_read_lower_tasks() -> None:
    """A lower stage's head supervises what is below it alone; what reads it stands above (Søgaard & Goldberg 2016)."""
    tasks = {"kind": TaskConfig(head=partial(MLPHead, stage=0, hidden=[4])), "size": TaskConfig(reads=["kind"])}
    network, batch = cascade("hard", "mlp", tasks), batch_of("single input")
    losses = losses_of(network, batch)
    stages = network.sharing.backbone.stages
    reached = {
        task: [any(g is not None for g in gradients(loss, list(stage.parameters()))) for stage in stages]
        for task, loss in losses.items()
    }
    assert reached == {"kind": [True, False, False], "size": [True] * 3, "alive": [True] * 3}
