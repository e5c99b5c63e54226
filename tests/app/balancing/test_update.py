"""One update from losses of every size and shape, without a trainer."""

import warnings

import pytest
import torch
from every_method import METHODS
from torch import Tensor, nn
from torch.nn import Identity

from app.balancing import MicroBatch, Parameters, Step, Update
from app.balancing.engine.gradients import accumulate
from app.balancing.engine.shared_norms import SharedNorms
from models.errors import ConfigurationError


class Network:
    """A shared layer of two and, for each task, a loss `sizes[t] · (‖W x_t‖² + own_t²)` of the shared features."""

    def __init__(self, method: str, inputs: Tensor, frozen: bool = False) -> None:
        tasks = len(inputs)
        torch.manual_seed(0)
        self.inputs = inputs.double()
        self.shared = nn.Parameter(torch.tensor([[1.0, 0.3], [-0.2, 0.8]]).double(), requires_grad=not frozen)
        self.own = [nn.Parameter(torch.tensor([0.5 + task]).double()) for task in range(tasks)]
        self.features = Identity()
        balancer, config = METHODS[method]()
        self.update = Update(balancer, config, tasks, self.features).double()

    def losses(self, sizes: Tensor) -> dict[int, Tensor]:
        (features,) = self.features([self.inputs @ self.shared.T])
        return {task: size * (features[task].square().sum() + self.own[task].square().sum())
                for task, size in enumerate(sizes.double())}  # fmt: skip

    def step(self, sizes: Tensor, number: int = 0, scale: float = 1.0, present: list[int] | None = None) -> None:
        present = list(range(len(self.inputs))) if present is None else present
        for parameter in self.parameters():
            parameter.grad = None
        losses = {task: loss for task, loss in self.losses(sizes).items() if task in present}
        of_step = torch.stack([losses[task].detach() for task in present])
        step = Step(number, number // 3, torch.tensor(present))
        shared = [self.shared] if self.shared.requires_grad else []
        parameters = Parameters(shared, [[own] for own in self.own], shared)
        self.update.backward(losses, torch.tensor(scale).double(), MicroBatch(step, 1, of_step), parameters)
        if self.update.scalarizer.looks_again:
            self.update.look_again(0.9 * torch.stack([loss.detach() for loss in self.losses(sizes).values()]))

    def parameters(self) -> list[nn.Parameter]:
        return [self.shared, *self.own, *self.update.parameters()]

    def gradients(self) -> list[Tensor | None]:
        return [None if p.grad is None else p.grad.clone() for p in self.parameters()]

    def state(self) -> dict[str, Tensor]:
        return {name: x.clone() for name, x in self.update.state_dict().items()}


APART = torch.tensor([[1.0, 0.2], [-0.6, 1.0], [0.3, -1.5]])
ONES = torch.ones(3)
every_method_ = pytest.mark.parametrize("method", METHODS)


def run(network: Network, sizes: Tensor, steps: int = 4) -> None:
    """Some steps of a small rate along the update's direction."""
    for number in range(steps):
        network.step(sizes, number)
        for parameter in network.parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all()
                with torch.no_grad():
                    parameter -= 1e-2 * parameter.grad / (1e-30 + parameter.grad.norm())


@every_method_
def test_the_scale_of_mixed_precision_changes_no_weight(method: str) -> None:
    plain, scaled = Network(method, APART), Network(method, APART)
    for number in range(4):
        plain.step(ONES, number)
        scaled.step(ONES, number, scale=2.0**16)
        for one, other in zip(plain.gradients(), scaled.gradients(), strict=True):
            torch.testing.assert_close(None if other is None else other / 2.0**16, one, rtol=1e-9, atol=1e-12)
        for one, other in zip(plain.state().values(), scaled.state().values(), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12, equal_nan=True)


@every_method_
def test_what_is_not_finite_is_for_the_scaler_to_skip(method: str) -> None:
    network = Network(method, APART)
    network.step(ONES, 0)
    before = network.state()
    network.inputs[1] = 1e200  # whose loss and gradient overflow
    network.step(ONES, 2)
    assert not network.shared.grad.isfinite().all()
    for name, now in network.state().items():
        assert torch.equal(now.nan_to_num(), before[name].nan_to_num()), name


@every_method_
@pytest.mark.parametrize("sizes", [[1e-8, 1.0, 1e8], [1e-8, 1e-8, 1e-8], [1e8, 1e8, 1e8]], ids=str)
def test_losses_of_any_size_move_the_network(method: str, sizes: list[float]) -> None:
    network = Network(method, APART)
    before = network.shared.detach().clone()
    run(network, torch.tensor(sizes))
    assert not torch.equal(network.shared, before)


@every_method_
def test_a_zero_gradient_leaves_the_others_be(method: str) -> None:
    """Nor does it stop the task's own parameters, whose loss falls there."""
    network = Network(method, torch.tensor([[1.0, 0.2], [0.0, 0.0], [0.3, -1.5]]))
    shared, own = network.shared.detach().clone(), network.own[1].detach().clone()
    run(network, ONES)
    assert not torch.equal(network.shared, shared)
    assert method == "worst_case" or network.own[1].abs() < own.abs()


@every_method_
def test_two_tasks_with_the_same_gradient(method: str) -> None:
    network = Network(method, torch.tensor([[1.0, 0.2], [1.0, 0.2], [0.3, -1.5]]))
    before = network.shared.detach().clone()
    run(network, ONES)
    assert not torch.equal(network.shared, before)


@every_method_
def test_one_task_alone_descends(method: str) -> None:
    network = Network(method, APART[:1])
    before = network.losses(ONES[:1])[0]
    run(network, ONES[:1])
    assert network.losses(ONES[:1])[0] < before


@every_method_
def test_a_task_that_is_absent_takes_no_part(method: str) -> None:
    """What the others get is what they would get without it, except where it keeps its share of the weights."""
    network = Network(method, APART)
    network.step(ONES, 0)
    network.step(ONES, 1, present=[0, 2])
    assert network.own[1].grad is None
    assert network.shared.grad.isfinite().all()
    assert network.shared.grad.any()
    assert network.update.record.present.tolist() == [0, 2]


@every_method_
def test_a_frozen_trunk_leaves_the_plain_sum(method: str) -> None:
    network = Network(method, APART, frozen=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network.step(ONES, 0)
        network.step(ONES, 1)
    told = [each for each in caught if "no shared parameter is trained" in str(each.message)]
    assert len(told) == (network.update.method is not None)
    assert network.shared.grad is None
    assert all(own.grad is not None and own.grad.isfinite().all() for own in network.own) or method == "worst_case"


@pytest.mark.parametrize("method", ["pcgrad", "mgda_ub", "nash_mtl", "imtl"])
def test_heads_follow_their_own_loss_unless_they_are_to_be_weighed(method: str) -> None:
    network = Network(method, APART)
    plain = Network("fixed", APART)
    network.step(ONES)
    plain.step(ONES)
    weights = network.update.record.weights
    for task, (own, expected) in enumerate(zip(network.own, plain.own, strict=True)):
        factor = weights[task] if method == "nash_mtl" else 1.0  # IMTL-L's factors begin at one
        torch.testing.assert_close(own.grad, expected.grad * factor)


def test_weights_are_held_between_refreshes() -> None:
    network = Network("upgrad_every_second", APART)
    weights = []
    for number in range(4):
        network.step(ONES, number)
        weights.append(network.update.record.weights)
        with torch.no_grad():
            network.shared -= 0.3 * network.shared.grad
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], weights[3])
    assert not torch.allclose(weights[1], weights[2])


def test_a_task_without_held_weight_asks_for_new_ones() -> None:
    network = Network("upgrad_every_second", APART)
    network.step(ONES, 0, present=[0, 2])
    assert network.update.held.isnan().tolist() == [False, True, False]
    network.step(ONES, 1)
    assert not network.update.held.isnan().any()


@every_method_
def test_a_batch_without_a_readable_row_gives_nothing(method: str) -> None:
    """Its losses of the step are those that other ranks and micro-batches have."""
    network = Network(method, APART)
    network.step(ONES, 0)
    for parameter in network.parameters():
        parameter.grad = None
    micro_batch = MicroBatch(Step(1, 0, torch.arange(3)), 1, torch.ones(3).double())
    parameters = Parameters([network.shared], [[own] for own in network.own], [network.shared])
    network.update.backward({}, torch.tensor(1.0).double(), micro_batch, parameters)
    assert network.shared.grad is None
    assert all(own.grad is None for own in network.own)


def test_gradients_are_not_shared_between_parameters() -> None:
    """As those of a + b are, or those of a.sum(), which is one number: clipping multiplies them in place."""
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    gradient = torch.tensor(1.0).expand(2)
    accumulate([a, b], (gradient, gradient))
    a.grad *= 2
    assert a.grad.tolist() == [2.0, 2.0]
    assert b.grad.tolist() == [1.0, 1.0]


def test_random_methods_draw_by_seed_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(seed: int, number: int) -> Tensor:
        network = Network("rlw", APART)
        network.update.seed = seed
        torch.rand(seed + 3)  # whatever else draws
        network.step(ONES, number)
        return network.shared.grad

    assert torch.equal(shared(1, 5), shared(1, 5))
    assert not torch.equal(shared(1, 5), shared(1, 6))
    assert not torch.equal(shared(1, 5), shared(2, 5))
    assert not torch.equal(shared(1, 5), shared(2, 4))


def compare(compared: list[nn.Parameter], losses: dict[int, Tensor]) -> Tensor:
    norms = SharedNorms()
    norms.take(losses, Step(0, 0, torch.arange(len(losses))), Parameters(compared, [[], []], compared))
    found = norms.norms(torch.tensor(1.0))
    assert found is not None
    return found


def test_norms_are_of_all_that_is_compared() -> None:
    """As of the last shared layer of several modalities, of which a task may reach one."""
    first, bias, last = (nn.Parameter(torch.ones(*shape)) for shape in [(2, 2), (2,), (1, 2)])
    losses = {0: 3 * first.sum() + 4 * last[0, 0], 1: last.sum() + bias.sum()}
    assert compare([last], losses).tolist() == pytest.approx([4.0, 2**0.5])
    assert compare([first, last], losses).tolist() == pytest.approx([(4 * 9 + 16) ** 0.5, 2**0.5])
    assert compare([first, last], {0: losses[0], 1: 2 * last.sum()}).tolist()[1] == pytest.approx(8**0.5)


def test_a_task_that_reaches_nothing_that_is_compared_is_refused() -> None:
    first, last = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(1, 2))
    losses = {0: last.sum(), 1: first.sum()}
    assert compare([first, last], losses).tolist() == pytest.approx([2**0.5, 2.0])
    with pytest.raises(ConfigurationError, match=r"last shared weight, \(1, 2\), which task number 1 \(from 0\)"):
        compare([last], losses)


class Trunk(nn.Sequential):
    """Two convolutions and a pooling, compiled or not; the same weights each time."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 3), nn.Flatten())


@pytest.mark.slow
def test_a_compiled_network_gets_the_same_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._functorch.config, "donated_buffer", False)  # as the module does
    images = torch.randn(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    heads = [nn.Linear(12, 1) for _ in range(3)]
    plain, fast = Trunk(), Trunk()
    fast.compile()

    def gradients(method: str, trunk: Trunk) -> list[Tensor]:
        features = Identity()
        update = Update(*METHODS[method](), 3, features)
        shared, own = list(trunk.parameters()), [list(head.parameters()) for head in heads]
        for parameter in [*shared, *(p for head in own for p in head)]:
            parameter.grad = None
        (embedding,) = features([trunk(images)])
        losses = {task: (head(embedding) - task).square().mean() for task, head in enumerate(heads)}
        step = Step(0, 0, torch.arange(3))
        of_step = torch.stack([loss.detach() for loss in losses.values()])
        parameters = Parameters(shared, own, [trunk[3].weight])
        update.backward(losses, torch.tensor(1.0), MicroBatch(step, 1, of_step), parameters)
        return [p.grad for p in [*shared, *(p for head in own for p in head)]]

    for method in METHODS:
        for expected, found in zip(gradients(method, plain), gradients(method, fast), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5, msg=lambda text, m=method: f"{m}: {text}")
