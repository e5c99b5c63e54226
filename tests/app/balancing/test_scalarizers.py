"""What every loss weighting must hold to: absent tasks, resumes, extreme losses, one task, wrong settings."""

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from app.balancing import GradientConfig, check_accumulation
from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.dwa import DWA
from app.balancing.methods.famo import FAMO
from app.balancing.methods.fixed import FixedWeights
from app.balancing.methods.gls import GLS
from app.balancing.methods.gradnorm import GradNorm
from app.balancing.methods.imtl_l import IMTLL
from app.balancing.methods.log_losses import LogLosses
from app.balancing.methods.rlw import RLW
from app.balancing.methods.stch import STCH
from app.balancing.methods.uncertainty import UncertaintyWeighting
from app.balancing.methods.uw_so import UWSO
from app.balancing.methods.worst_case import ExponentiatedGradient, WorstCase
from models.errors import ConfigurationError

ALL: list[Callable[[], Scalarizer]] = [
    FixedWeights,
    RLW,
    UncertaintyWeighting,
    IMTLL,
    UWSO,
    DWA,
    GLS,
    LogLosses,
    WorstCase,
    ExponentiatedGradient,
    lambda: STCH(warmup_epochs=2),
    FAMO,
    GradNorm,
]
IDS = [type(make()).__name__ for make in ALL]
every_one = pytest.mark.parametrize("make", ALL, ids=IDS)
# Epoch → the tasks of its steps; task 2 is never in epoch 1.
PRESENT = [[[0, 1, 2], [0, 2], [1]], [[0, 1], [0], [1, 0]], [[0, 1, 2], [1, 2], [0, 2]], [[2, 0], [0, 1, 2], [1, 2]]]


def started(make: Callable[[], Scalarizer], tasks: int = 3) -> Scalarizer:
    scalarizer = make()
    scalarizer.start(tasks)
    return scalarizer


def steps() -> list[tuple[Step, Tensor, Tensor, Tensor]]:
    """Steps with the losses of all tasks before and after the update, and their gradients' norms."""
    draw = torch.Generator().manual_seed(3)
    flat = [(epoch, sorted(tasks)) for epoch, of_epoch in enumerate(PRESENT) for tasks in of_epoch]
    found = []
    for number, (epoch, tasks) in enumerate(flat):
        losses, norms = torch.rand(2, 3, generator=draw) * torch.tensor([0.01, 1.0, 20.0])
        after = losses * (0.5 + 0.6 * torch.rand(3, generator=draw))
        found.append((Step(number, epoch, torch.tensor(tasks)), losses, after, norms))
    return found


STEPS = steps()


def weigh(scalarizer: Scalarizer, losses: Tensor, step: Step) -> Tensor:
    """The weights [T'], and the gradients of the scalarizer's own parameters in their `.grad`."""
    leaf = losses.clone().requires_grad_()
    own = list(scalarizer.parameters())
    torch.manual_seed(step.number)
    weights, *gradients = torch.autograd.grad(scalarizer(leaf, step), [leaf, *own], allow_unused=True)
    for parameter, gradient in zip(own, gradients, strict=True):
        parameter.grad = gradient
    return weights


class Trained:
    """A scalarizer with the optimizer of its parameters, as in a run."""

    def __init__(self, scalarizer: Scalarizer) -> None:
        self.scalarizer = scalarizer
        own = list(scalarizer.parameters())
        self.optimizer = torch.optim.AdamW(own, lr=0.1, weight_decay=0.1) if own else None

    def take(self, step: Step, losses: Tensor, after: Tensor, norms: Tensor) -> Tensor:
        weights = weigh(self.scalarizer, losses[step.present], step)
        self.scalarizer.observe(losses[step.present], step, norms[step.present])
        if self.optimizer:
            self.optimizer.step()
        self.scalarizer.look_again(after[step.present], step)
        return weights


def state(scalarizer: Scalarizer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in scalarizer.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


@every_one
def test_forward_changes_no_state(make: Callable[[], Scalarizer]) -> None:
    run = Trained(started(make))
    for seen in STEPS:
        before = state(run.scalarizer)
        weights = weigh(run.scalarizer, seen[1][seen[0].present], seen[0])
        assert not differing(before, state(run.scalarizer))
        assert torch.equal(weights, run.take(*seen))


@every_one
def test_absent_tasks_keep_their_state_bit_for_bit(make: Callable[[], Scalarizer]) -> None:
    """Per task: an entry of a buffer, or a parameter of its own with its moments in AdamW, decay included."""
    run = Trained(started(make))
    moved = set()
    for seen in STEPS:
        before = state(run.scalarizer)
        run.take(*seen)
        present = seen[0].present.tolist()
        for name, value in state(run.scalarizer).items():
            if value.ndim:
                absent = [task for task in range(3) if task not in present]
                assert torch.equal(value[absent], before[name][absent]), (name, seen[0])
            elif int(name.split(".")[-1]) not in present:
                assert torch.equal(value, before[name]), (name, seen[0])
        moved |= differing(before, state(run.scalarizer))
    assert moved == set(run.scalarizer.state_dict())


@every_one
@pytest.mark.parametrize("at", [1, 4, 6, 8])
def test_resumed_run_goes_on_bit_for_bit(make: Callable[[], Scalarizer], at: int) -> None:
    whole, resumed = Trained(started(make)), Trained(started(make))
    for seen in STEPS[:at]:
        whole.take(*seen)
    file = io.BytesIO()
    optimizer = whole.optimizer and whole.optimizer.state_dict()
    torch.save({"scalarizer": whole.scalarizer.state_dict(), "optimizer": optimizer}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.scalarizer.load_state_dict(saved["scalarizer"])
    if resumed.optimizer:
        resumed.optimizer.load_state_dict(saved["optimizer"])
    for seen in STEPS[at:]:
        assert torch.equal(whole.take(*seen), resumed.take(*seen)), seen[0]
    assert not differing(state(whole.scalarizer), state(resumed.scalarizer))


@every_one
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_losses_and_zeros_give_finite_weights_and_state(
    make: Callable[[], Scalarizer], dtype: torch.dtype
) -> None:
    run = Trained(started(make).to(dtype))
    rows = [[1e-8, 1.0, 1e8], [1e8, 1e-8, 1.0], [0.0, 1.0, 1e8], [0.0, 0.0, 0.0], [1e8, 1e8, 1e8], [1e-8, 0.0, 1e-8]]
    everyone = torch.arange(3)
    for number, row in enumerate(3 * rows):
        losses = torch.tensor(row, dtype=dtype)
        weights = run.take(Step(number, number // 2, everyone), losses, losses.flip(0), losses.roll(1))
        assert weights.dtype == dtype
        assert weights.isfinite().all(), row
        assert (weights >= 0).all()
        assert all(value.isfinite().all() for value in state(run.scalarizer).values()), row


@pytest.mark.parametrize("make", [GLS, UWSO, FAMO, LogLosses, lambda: STCH(warmup_epochs=0)])
def test_a_loss_of_zero_does_not_stop_the_others(make: Callable[[], Scalarizer]) -> None:
    scalarizer, step = started(make), Step(0, 0, torch.arange(3))
    weights = weigh(scalarizer, torch.tensor([0.5, 0.0, 2.0]), step)
    assert weights[1] == 0
    assert weights[[0, 2]].min() > 0.05


def test_the_geometric_mean_is_of_the_losses_above_zero() -> None:
    """(0.5 × 2)^½ / (2 L)."""
    weights = weigh(started(GLS), torch.tensor([0.5, 0.0, 2.0]), Step(0, 0, torch.arange(3)))
    assert weights.tolist() == pytest.approx([1.0, 0.0, 0.25])


@pytest.mark.parametrize("make", [UncertaintyWeighting, IMTLL])
def test_the_weight_of_a_loss_that_stays_zero_is_bounded(make: Callable[[], Scalarizer]) -> None:
    """Without a bound the parameter would run away, and the weight with it to infinity."""
    scalarizer, step = started(make, 1), Step(0, 0, torch.arange(1))
    optimizer = torch.optim.SGD(scalarizer.parameters(), lr=1.0)
    for _ in range(300):
        assert weigh(scalarizer, torch.zeros(1), step).isfinite().all()
        optimizer.step()
    assert weigh(scalarizer, torch.zeros(1), step).item() == pytest.approx(1e20, rel=0.6)


def test_those_with_known_weights_say_so() -> None:
    """The others cost every task's gradient under accumulation."""
    linear = {name for make, name in zip(ALL, IDS, strict=True) if make().linear}
    assert linear == {"FixedWeights", "RLW", "UncertaintyWeighting", "IMTLL", "DWA", "GradNorm"}


@pytest.mark.parametrize("make", [make for make in ALL if make().linear])
def test_linear_ones_weigh_alike_whatever_the_losses(make: Callable[[], Scalarizer]) -> None:
    """So that an earlier micro-batch of a step can be weighed before the step's losses are known."""
    run = Trained(started(make))
    for seen in STEPS:
        ones = weigh(run.scalarizer, torch.ones(len(seen[0].present)), seen[0])
        zeros = weigh(run.scalarizer, torch.zeros(len(seen[0].present)), seen[0])
        assert torch.equal(ones, zeros)
        assert torch.equal(ones, run.take(*seen))


@pytest.mark.parametrize("make", [make for make in ALL if make is not RLW], ids=[x for x in IDS if x != "RLW"])
def test_permuted_tasks_have_permuted_weights(make: Callable[[], Scalarizer]) -> None:
    one, other, order = Trained(started(make)), Trained(started(make)), torch.tensor([2, 0, 1])
    for step, *vectors in STEPS:
        present = torch.tensor(sorted(order[step.present].tolist()))
        moved = [torch.empty(3).index_copy(0, order, vector) for vector in vectors]
        weights, permuted = torch.zeros(3), torch.zeros(3)
        weights[step.present] = one.take(step, *vectors)
        permuted[present] = other.take(Step(step.number, step.epoch, present), *moved)
        torch.testing.assert_close(permuted[order], weights, rtol=1e-4, atol=1e-7)


@every_one
def test_one_task_alone_is_only_scaled(make: Callable[[], Scalarizer]) -> None:
    """Its weight is positive, and 1 where weights are shares; what compares tasks has nothing to learn."""
    run = Trained(started(make, 1))
    for number in range(8):
        losses = torch.tensor([3.0 / (number + 1)])
        weight = run.take(Step(number, number, torch.arange(1)), losses, losses / 2, losses * 7).item()
        if isinstance(run.scalarizer, (LogLosses, STCH, UncertaintyWeighting, IMTLL)):
            assert weight > 0
        else:
            assert weight == pytest.approx(1, rel=1e-6)


def test_gradnorm_sees_no_gap_in_what_rounding_leaves() -> None:
    """Its sign would differ from one number of ranks to another, and a step of Adam is as large for it as for any."""
    scalarizer = started(GradNorm, 2)
    norms = torch.tensor([1.0, 1.0 + 2**-22])
    scalarizer.observe(torch.ones(2), Step(0, 0, torch.arange(2)), norms)
    assert scalarizer.weights.tolist() == [1, 1]
    scalarizer.observe(torch.ones(2), Step(1, 0, torch.arange(2)), norms**10000)
    assert scalarizer.weights.tolist() != [1, 1]


def test_gradnorm_weights_stay_above_zero_where_a_gradient_is_far_too_large() -> None:
    scalarizer = started(GradNorm, 2)
    for number in range(100):
        scalarizer.observe(torch.ones(2), Step(number, 0, torch.arange(2)), torch.tensor([1e-6, 1e6]))
        assert scalarizer.weights.min() > 5e-5


def test_gradnorm_takes_the_first_loss_above_zero_for_the_initial_one() -> None:
    """A rate over a loss of 0 would be without end."""
    scalarizer = started(GradNorm, 2)
    for number, first in enumerate([0.0, 5.0, 4.0]):
        scalarizer.observe(torch.tensor([first, 1.0]), Step(number, 0, torch.arange(2)), torch.ones(2))
    assert scalarizer.first_losses.tolist() == [5.0, 1.0]


def test_gradnorm_keeps_its_weights_without_a_shared_layer() -> None:
    run = Trained(started(GradNorm))
    for seen in STEPS[:3]:
        run.take(*seen)
    before = state(run.scalarizer)
    run.scalarizer.observe(torch.ones(3), Step(3, 1, torch.arange(3)), None)
    assert not differing(before, state(run.scalarizer))


def test_gradnorm_leaves_the_sum_of_all_weights_at_the_number_of_tasks() -> None:
    run = Trained(started(GradNorm))
    for seen in STEPS:
        run.take(*seen)
        assert run.scalarizer.weights.sum().item() == pytest.approx(3, rel=1e-5)
    assert run.scalarizer.weights.std() > 0.01


@pytest.mark.parametrize("make", [UWSO, GLS, LogLosses, STCH, FAMO, UncertaintyWeighting, IMTLL])
def test_negative_losses_are_refused_where_they_have_no_meaning(make: Callable[[], Scalarizer]) -> None:
    with pytest.raises(ValueError, match=r"model\.balancer: losses must be at least 0 .*, found \[1\.0, -0\.5\]$"):
        weigh(started(make, 2), torch.tensor([1.0, -0.5]), Step(0, 0, torch.arange(2)))


@pytest.mark.parametrize("make", [DWA, GradNorm])
def test_negative_losses_are_refused_where_they_are_kept(make: Callable[[], Scalarizer]) -> None:
    with pytest.raises(ValueError, match=r"model\.balancer: losses must be at least 0 .*, found \[1\.0, -0\.5\]$"):
        started(make, 2).observe(torch.tensor([1.0, -0.5]), Step(0, 0, torch.arange(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DWA(temperature=0.0), "temperature: must be above 0, found 0.0"),
        (lambda: UWSO(temperature=-1.0), "temperature: must be above 0, found -1.0"),
        (lambda: STCH(mu=0.0), "mu: must be above 0, found 0.0"),
        (lambda: STCH(warmup_epochs=-1), "warmup_epochs: must be at least 0, found -1"),
        (lambda: FAMO(lr=0.0), "lr: must be above 0, found 0.0"),
        (lambda: FAMO(weight_decay=-0.1), "weight_decay: must be at least 0, found -0.1"),
        (lambda: started(lambda: FAMO(min_losses=[0.1])), r"min_losses: must be one number .* 3 tasks, found \[0\.1\]"),
        (lambda: ExponentiatedGradient(step_size=float("nan")), "step_size: must be above 0, found nan"),
        (lambda: GradNorm(alpha=-1.0), "alpha: must be at least 0, found -1.0"),
        (lambda: GradNorm(lr=0.0), "lr: must be above 0, found 0.0"),
    ],
)
def test_wrong_settings_name_the_key_and_the_value(make: Callable[[], Scalarizer], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.balancer\.{message}$"):
        make()


@pytest.mark.parametrize(("method", "declared"), [("observe", "observes"), ("look_again", "looks_again")])
def test_what_is_never_called_is_refused_at_its_definition(method: str, declared: str) -> None:
    with pytest.raises(TypeError, match=f"^Silent: has `{method}`, so that it must say `{declared} = True`$"):
        type("Silent", (FixedWeights,), {method: lambda self, losses, step, norms=None: None})
    type("Outspoken", (FixedWeights,), {method: lambda self, losses, step, norms=None: None, declared: True})


def test_a_scalarizer_that_needs_the_whole_batch_refuses_micro_batches() -> None:
    whole = type("Whole", (FixedWeights,), {"needs_whole_batch": True})()
    check_accumulation(whole, GradientConfig(), 1)
    with pytest.raises(ConfigurationError, match="must be 1 with Whole, which needs a step's whole batch at once"):
        check_accumulation(whole, GradientConfig(), 2)
