"""Every loss weighting against its paper's formula, written out as a loop over steps in which tasks are absent."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.dwa import DWA
from app.balancing.methods.famo import FAMO
from app.balancing.methods.gls import GLS
from app.balancing.methods.gradnorm import GradNorm
from app.balancing.methods.imtl_l import IMTLL
from app.balancing.methods.log_losses import LogLosses
from app.balancing.methods.rlw import RLW
from app.balancing.methods.stch import STCH
from app.balancing.methods.uncertainty import UncertaintyWeighting
from app.balancing.methods.uw_so import UWSO
from app.balancing.methods.worst_case import ExponentiatedGradient, WorstCase

TASKS, EPOCHS, RATE = 4, 9, 0.05
WEIGHT = float  # of a task's loss in a step
Weights = list[dict[int, WEIGHT]]


@dataclass
class Seen:
    """A step, and what its tasks show: losses before and after the update, and the norms of their gradients."""

    step: Step
    losses: np.ndarray
    after: np.ndarray
    norms: np.ndarray

    @property
    def tasks(self) -> list[int]:
        return self.step.present.tolist()


def run_of_steps() -> list[Seen]:
    """Three steps an epoch. Task 3 is there from epoch 7 on, task 2 not in epochs 4 and 5, the others often."""
    draw = np.random.default_rng(5)
    steps = []
    for number in range(3 * EPOCHS):
        epoch = number // 3
        chance = np.array([0.9, 0.8, 0.9 * (epoch not in (4, 5)), float(epoch > 6)])
        tasks = np.flatnonzero(draw.random(TASKS) < chance)
        tasks = tasks if len(tasks) else np.array([0])
        scales = np.array([1e-2, 1.0, 3.0, 50.0])[tasks] * 0.9**number
        losses = scales * draw.lognormal(0, 0.5, len(tasks))
        after, norms = losses * draw.uniform(0.6, 1.1, len(tasks)), scales * draw.lognormal(0, 1, len(tasks))
        steps.append(Seen(Step(number, epoch, torch.from_numpy(tasks)), losses, after, norms))
    return steps


STEPS = run_of_steps()


def weights_of(scalarizer: Scalarizer, steps: list[Seen] = STEPS) -> Weights:
    """The tasks' weights at every step, the scalarizer's own parameters trained by plain gradient descent."""
    scalarizer.start(TASKS)
    scalarizer.double()
    weights = []
    for seen in steps:
        losses = torch.from_numpy(seen.losses).requires_grad_()
        own = list(scalarizer.parameters())
        torch.manual_seed(seen.step.number)
        found, *gradients = torch.autograd.grad(scalarizer(losses, seen.step), [losses, *own], allow_unused=True)
        weights.append(dict(zip(seen.tasks, found.tolist(), strict=True)))
        scalarizer.observe(losses.detach(), seen.step, torch.from_numpy(seen.norms))
        with torch.no_grad():
            for task, (parameter, gradient) in enumerate(zip(own, gradients, strict=True)):
                assert (gradient is None) == (task not in seen.tasks)
                if gradient is not None:
                    parameter -= RATE * gradient
        scalarizer.look_again(torch.from_numpy(seen.after), seen.step)
    return weights


def random() -> Weights:
    weights = []
    for seen in STEPS:
        torch.manual_seed(seen.step.number)
        drawn = np.exp(torch.randn(len(seen.tasks)).numpy())
        weights.append(dict(zip(seen.tasks, drawn / drawn.sum(), strict=True)))
    return weights


def uncertainty() -> Weights:
    """Kendall's own symbols: 1/(2σ²) L + log σ, over log σ² = s."""
    s, weights = np.zeros(TASKS), []
    for seen in STEPS:
        variance = np.exp(s[seen.tasks])
        weights.append(dict(zip(seen.tasks, 1 / (2 * variance), strict=True)))
        s[seen.tasks] -= RATE * (0.5 - seen.losses / (2 * variance))
    return weights


def imtl_l() -> Weights:
    s, weights = np.zeros(TASKS), []
    for seen in STEPS:
        scales = np.exp(s[seen.tasks])
        weights.append(dict(zip(seen.tasks, scales, strict=True)))
        s[seen.tasks] -= RATE * (scales * seen.losses - 1)
    return weights


def uw_so() -> Weights:
    weights = []
    for seen in STEPS:
        powers = np.exp(1 / seen.losses / 100)
        weights.append(dict(zip(seen.tasks, powers / powers.sum(), strict=True)))
    return weights


def means_by_epoch() -> list[dict[int, float]]:
    """Each epoch's mean losses of the tasks that were in it."""
    means = []
    for epoch in range(EPOCHS):
        seen = [(t, loss) for s in STEPS if s.step.epoch == epoch for t, loss in zip(s.tasks, s.losses, strict=True)]
        means.append({task: float(np.mean([x for t, x in seen if t == task])) for task in {t for t, _ in seen}})
    return means


def dwa() -> Weights:
    means, weights = means_by_epoch(), []
    for seen in STEPS:
        powers = []
        for task in range(TASKS):
            past = [epoch[task] for epoch in means[: seen.step.epoch] if task in epoch]
            powers.append(np.exp((past[-1] / past[-2] if len(past) > 1 else 1) / 0.5))
        weights.append({task: TASKS * powers[task] / sum(powers) for task in seen.tasks})
    return weights


def gls() -> Weights:
    mean = [np.prod(seen.losses) ** (1 / len(seen.tasks)) for seen in STEPS]
    return [dict(zip(s.tasks, m / (len(s.tasks) * s.losses), strict=True)) for s, m in zip(STEPS, mean, strict=True)]


def log_losses() -> Weights:
    return [dict(zip(seen.tasks, 1 / seen.losses, strict=True)) for seen in STEPS]


def worst_case() -> Weights:
    return [{task: float(loss == max(s.losses)) for task, loss in zip(s.tasks, s.losses, strict=True)} for s in STEPS]


def exponentiated_gradient() -> Weights:
    """As for groups: one that the step did not see has the loss 0, and all of q is renormalised."""
    q, weights = np.ones(TASKS) / TASKS, []
    for seen in STEPS:
        losses = np.zeros(TASKS)
        losses[seen.tasks] = seen.losses
        q = q * np.exp(0.1 * losses)
        q /= q.sum()
        weights.append({task: q[task] for task in seen.tasks})
    return weights


def smooth_tchebycheff() -> Weights:
    """Derivatives of T μ log Σ exp(log(L / n) / μ) by central differences."""
    means, weights = means_by_epoch()[:5], []
    nadirs = {task: mean for epoch in means for task, mean in epoch.items()}
    for seen in STEPS:
        if seen.step.epoch < 5:
            weights.append(dict(zip(seen.tasks, 1 / seen.losses, strict=True)))
            continue
        for task, loss in zip(seen.tasks, seen.losses, strict=True):
            nadirs.setdefault(task, loss)
        relative = seen.losses / np.array([nadirs[task] for task in seen.tasks])

        def value(x: np.ndarray) -> float:
            return len(x) * 0.3 * np.log(np.exp(np.log(x) / 0.3).sum())

        steps = np.diag(relative * 1e-5)
        slopes = [(value(relative + h) - value(relative - h)) / (2 * h.sum()) for h in steps]
        weights.append(dict(zip(seen.tasks, slopes * relative / seen.losses, strict=True)))
    return weights


def famo() -> Weights:
    """With torch's own Adam, a parameter a task, and Jᵀ by autograd."""
    logits = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(TASKS)]
    adam, weights = torch.optim.Adam(logits, lr=0.025, weight_decay=1e-3), []
    bounds = np.array([2**-17, 0.0, 2**-10, 0.0])
    for seen in STEPS:
        excess, after = seen.losses - bounds[seen.tasks], seen.after - bounds[seen.tasks]
        shares = torch.stack([logits[task] for task in seen.tasks]).softmax(0)
        ratios = shares.detach().numpy() / excess
        weights.append(dict(zip(seen.tasks, ratios / ratios.sum(), strict=True)))
        adam.zero_grad(set_to_none=True)
        shares.backward(torch.from_numpy(np.log(excess) - np.log(after)))
        adam.step()
    return weights


def gradnorm() -> Weights:
    """With torch's own Adam, and the derivative of Σ |G_i − sg(Ḡ r_i^α)| by autograd."""
    w = [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(TASKS)]
    adam, weights, first = torch.optim.Adam(w, lr=0.025), [], dict[int, float]()
    for seen in STEPS:
        weights.append({task: w[task].item() for task in seen.tasks})
        for task, loss in zip(seen.tasks, seen.losses, strict=True):
            first.setdefault(task, loss)
        remaining = seen.losses / np.array([first[task] for task in seen.tasks])
        sizes = torch.stack([w[task] for task in seen.tasks]) * torch.from_numpy(seen.norms)
        aims = sizes.mean().detach() * torch.from_numpy((remaining / remaining.mean()) ** 0.7)
        adam.zero_grad(set_to_none=True)
        ((sizes - aims).abs().sum() / sizes.mean().detach() * (len(seen.tasks) > 1)).backward()
        before = sum(w[task].item() for task in seen.tasks)
        adam.step()
        with torch.no_grad():
            moved = sum(max(w[task].item(), 1e-4) for task in seen.tasks)
            for task in seen.tasks:
                w[task].copy_(max(w[task].item(), 1e-4) * before / moved)
    return weights


CASES: dict[str, tuple[Scalarizer, Callable[[], Weights]]] = {
    "rlw": (RLW(), random),
    "uncertainty": (UncertaintyWeighting(), uncertainty),
    "imtl_l": (IMTLL(), imtl_l),
    "uw_so": (UWSO(temperature=100.0), uw_so),
    "dwa": (DWA(temperature=0.5), dwa),
    "gls": (GLS(), gls),
    "log_losses": (LogLosses(), log_losses),
    "worst_case": (WorstCase(), worst_case),
    "exponentiated_gradient": (ExponentiatedGradient(step_size=0.1), exponentiated_gradient),
    "stch": (STCH(mu=0.3), smooth_tchebycheff),
    "famo": (FAMO(min_losses=[2**-17, 0.0, 2**-10, 0.0]), famo),
    "gradnorm": (GradNorm(alpha=0.7), gradnorm),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_are_the_papers_at_every_step(name: str) -> None:
    scalarizer, reference = CASES[name]
    expected, found = reference(), weights_of(scalarizer)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == pytest.approx(other, rel=1e-6 if name in ("rlw", "stch") else 1e-9), number
    assert any(one != other for one, other in pairwise(found))


def test_random_weights_follow_a_normal_distribution() -> None:
    """The difference log w_i − log w_j is that of two standard normal draws: mean 0 and variance 2."""
    torch.manual_seed(0)
    losses = torch.ones(2, requires_grad=True)
    weights = [torch.autograd.grad(RLW()(losses, Step(0, 0, torch.arange(2))), losses)[0] for _ in range(4000)]
    gaps = torch.stack([w[0].log() - w[1].log() for w in weights])
    assert gaps.mean().abs() < 0.1
    assert gaps.var().item() == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(
    ("scalarizer", "aim"), [(UncertaintyWeighting(), lambda loss: 0.5 / loss), (IMTLL(), lambda loss: 1 / loss)]
)
def test_learned_weights_settle_at_the_inverse_losses(scalarizer: Scalarizer, aim: Callable[[Tensor], Tensor]) -> None:
    scalarizer.start(3)
    losses, step = torch.tensor([0.02, 1.0, 30.0]), Step(0, 0, torch.arange(3))
    adam = torch.optim.Adam(scalarizer.parameters(), lr=0.05)
    for _ in range(600):
        adam.zero_grad()
        scalarizer(losses, step).backward()
        adam.step()
    leaf = losses.clone().requires_grad_()
    weights = torch.autograd.grad(scalarizer(leaf, step), leaf)[0]
    assert weights.tolist() == pytest.approx(aim(losses).tolist(), rel=1e-2)


def test_gradnorm_makes_gradients_equally_large_without_restoring_force() -> None:
    scalarizer = GradNorm(alpha=0.0, lr=0.01)
    scalarizer.start(3)
    norms = torch.tensor([1e5, 3e5, 9e5])  # at w = 1.86, .62, .21
    for number in range(500):
        scalarizer.observe(torch.ones(3), Step(number, 0, torch.arange(3)), norms)
    sizes = scalarizer.weights * norms
    assert (sizes / sizes.mean()).tolist() == pytest.approx([1, 1, 1], abs=0.1)
    assert scalarizer.weights.sum().item() == pytest.approx(3, rel=1e-5)


def test_famo_gives_way_to_the_task_that_falls_least() -> None:
    scalarizer = FAMO()
    scalarizer.start(2)
    for number in range(20):
        step = Step(number, 0, torch.arange(2))
        scalarizer.observe(torch.tensor([1.0, 1.0]), step, None)
        scalarizer.look_again(torch.tensor([0.5, 0.99]), step)
    shares = scalarizer.logits.softmax(0)
    assert shares[1] > shares[0]
