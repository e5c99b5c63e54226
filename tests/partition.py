"""What must hold of which parameters are shared, and of the update that they get."""

from collections.abc import Callable

import torch
from schemes import TASKS, losses_of
from torch import Tensor, nn
from torchjd.aggregation import UPGrad

from app.balancing import GradientConfig, Parameters, Update
from app.network.network import Network
from app.training.step import TrainingStep
from datamodules.batch import MultiTaskBatch


def gradients(loss: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) if parameters else ()


def assert_partition(network: Network, batch: MultiTaskBatch) -> None:
    """Shared parameters are reached by two losses or more, own ones by their task's alone, unused ones by none."""
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


def assert_exact_update(build: Callable[[], Network], batch: MultiTaskBatch) -> None:
    """UPGrad's update of the shared parameters is that of the whole Jacobian; a task's own get its own gradient."""
    network = build()
    losses, shared = losses_of(network, batch), network.shared_parameters()
    expected_own = {task: gradients(losses[task], network.task_parameters(task)) for task in TASKS}
    expected: tuple[Tensor, ...] = ()
    if shared:
        rows = [
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(shared, each, strict=True)])
            for each in (gradients(losses[task], shared) for task in TASKS)
        ]
        expected = UPGrad()(torch.stack(rows)).split([p.numel() for p in shared])

    network = build()  # whose running statistics have not moved
    shared, own = network.shared_parameters(), {task: network.task_parameters(task) for task in TASKS}
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
        torch.testing.assert_close(parameter.grad, gradient.view_as(parameter), rtol=0, atol=1e-12)
    for task in TASKS:
        for parameter, gradient in zip(own[task], expected_own[task], strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)
