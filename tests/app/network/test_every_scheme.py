"""What holds for every sharing scheme on every backbone and layout of rows."""

import pytest
import torch
from schemes import BACKBONES, LAYOUTS, NOT_FOR, SCHEMES, TASKS, batch_of, losses_of, network_of
from torch import Tensor, nn
from torchjd.aggregation import UPGrad

from app.balancing import GradientConfig, Parameters, Update
from app.training.step import TrainingStep
from app.training.supported import check_level
from models.errors import ConfigurationError

CASES = [
    pytest.param(s, b, layout, marks=[] if b == "mlp" or layout == "partial" else pytest.mark.slow)
    for s in SCHEMES
    for b in BACKBONES
    if b not in NOT_FOR.get(s, [])
    for layout in LAYOUTS
] + [("mtan", "residual", layout) for layout in LAYOUTS]  # several stages of maps with masks
LARGE_CASES = [
    pytest.param(s, b, "partial", marks=pytest.mark.slow)
    for s in {getattr(scheme, "func", scheme): name for name, scheme in SCHEMES.items()}.values()  # one of each class
    for b, like in {"resnet18": "resnet", "vit_tiny": "vit"}.items()
    if like not in NOT_FOR.get(s, [])
]
CASE = ("scheme", "backbone", "layout")


def gradients(loss: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) if parameters else ()


@pytest.mark.parametrize(CASE, [*CASES, *LARGE_CASES])
def test_shared_parameters_are_reached_by_several_losses_and_own_ones_by_theirs(
    scheme: str, backbone: str, layout: str
) -> None:
    network, batch = network_of(scheme, backbone), batch_of(layout)
    losses = losses_of(network, batch)
    shared, own = network.shared_parameters(), {task: network.task_parameters(task) for task in TASKS}
    unused = network.sharing.unused_parameters()
    everything = [*shared, *(parameter for each in own.values() for parameter in each), *unused]
    assert sorted(map(id, everything)) == sorted(map(id, network.parameters()))
    reached = [
        sum(g is not None for g in each) for each in zip(*(gradients(losses[t], shared) for t in TASKS), strict=True)
    ]
    assert all(number >= 2 for number in reached)
    for task in TASKS:
        assert all(gradient is None for gradient in gradients(losses[task], unused))
        assert all(gradient is not None for gradient in gradients(losses[task], own[task]))
        for other in set(TASKS) - {task}:
            assert all(g is None or not g.any() for g in gradients(losses[other], own[task]))


@pytest.mark.parametrize(CASE, CASES)
def test_update_is_that_of_the_whole_jacobian(scheme: str, backbone: str, layout: str) -> None:
    """Of UPGrad, for the shared parameters; a task's own get its own gradient."""
    network, batch = network_of(scheme, backbone), batch_of(layout)
    losses, shared = losses_of(network, batch), network.shared_parameters()
    own = {task: network.task_parameters(task) for task in TASKS}
    expected_own = {task: gradients(losses[task], own[task]) for task in TASKS}
    expected: tuple[Tensor, ...] = ()
    if shared:
        rows = [
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(shared, each, strict=True)])
            for each in (gradients(losses[task], shared) for task in TASKS)
        ]
        update = UPGrad()(torch.stack(rows))
        expected = tuple(
            part.view_as(p) for part, p in zip(update.split([p.numel() for p in shared]), shared, strict=True)
        )

    torch.manual_seed(0)
    balancing = Update(UPGrad(), GradientConfig(), len(TASKS), network.shared_features)
    step = TrainingStep(network.weights)
    step.take(batch, losses_of(network, batch), first=True, device=torch.device("cpu"))
    step.end()
    laid_out = network.sharing.rows_in_trunk(batch.rows)
    size = len(batch.ids) if laid_out is batch.rows else sum(map(len, laid_out.values()))
    micro_batch = step.micro_batch(number=0, epoch=0, of=1, ends=True, rows=laid_out, size=size)
    parameters = Parameters(shared, list(own.values()), network.sharing.compared_weights())
    balancing.backward(step.release(), torch.ones((), dtype=torch.float64), micro_batch, parameters)
    for parameter, gradient in zip(shared, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)
    for task in TASKS:
        for parameter, gradient in zip(own[task], expected_own[task], strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)


PAIRS = [(scheme, each) for scheme in SCHEMES for each in BACKBONES if each not in NOT_FOR.get(scheme, [])]


@pytest.mark.parametrize(("scheme", "backbone"), [pair for pair in PAIRS if pair[1] != "vit"])
def test_absent_task_is_left_as_it_is(scheme: str, backbone: str) -> None:
    network, batch = network_of(scheme, backbone), batch_of("partial", without="size")
    sum(losses_of(network, batch).values()).backward()
    assert all(parameter.grad is None for parameter in network.task_parameters("size"))
    assert all(p.grad is not None for task in ("kind", "alive") for p in network.task_parameters(task))


@pytest.mark.parametrize(("scheme", "backbone"), PAIRS)
def test_weights_are_saved_and_loaded(scheme: str, backbone: str) -> None:
    network, other, batch = network_of(scheme, backbone), network_of(scheme, backbone, seed=1), batch_of("partial")
    losses_of(network, batch)  # which moves running statistics
    other.load_state_dict(network.state_dict())
    network.eval(), other.eval()
    outputs = other(batch.inputs, batch.rows)
    for task, expected in network(batch.inputs, batch.rows).items():
        assert torch.equal(outputs[task], expected)
    names = [name for group in network.groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in network.sharing.named_parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_features_are_looked_at_where_there_are_some_that_all_tasks_read(scheme: str) -> None:
    network = network_of(scheme, "vit")
    config = GradientConfig(level="features")
    if network.sharing.passes_on_features:
        check_level(config, network)
    else:
        with pytest.raises(ConfigurationError, match=r"^model\.gradients\.level: "):
            check_level(config, network)
