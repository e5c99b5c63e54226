"""Gradient weightings: what they compute, keep and refuse."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from torchjd import aggregation as torchjd

from app.balancing import Balancer
from app.balancing.base import Weighting
from app.balancing.engine.step import Step
from app.balancing.methods.cagrad import CAGrad
from app.balancing.methods.fairgrad import FairGrad
from app.balancing.methods.gradvac import GradVac
from app.balancing.methods.mgda import MGDA
from app.balancing.methods.nash_mtl import NashMTL
from app.balancing.methods.torchjd_weighting import TorchJDRule, TorchJDWeighting, from_torchjd, restricted

CLOSED_FORM = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)  # of [[-4, 1, 1], [6, 1, 1]]


def step(*present: int, number: int = 0) -> Step:
    return Step(number, 0, torch.tensor(present))


def gramian(tasks: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(tasks, 6, generator=generator, dtype=torch.float64)
    jacobian[0] -= 0.7 * jacobian[1:].sum(0)
    return jacobian @ jacobian.T


def adapted(aggregator: torchjd.Aggregator, tasks: int = 2) -> Weighting:
    weighting = from_torchjd(aggregator, tasks)
    assert isinstance(weighting, TorchJDWeighting)
    return weighting


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        (MGDA, [0.6000, 0.4000]),
        (lambda: adapted(torchjd.PCGrad()), [2.2222, 1.5789]),
        (lambda: adapted(torchjd.UPGrad()), [1.1109, 0.7894]),
        (lambda: adapted(torchjd.DualProj()), [0.6109, 0.5000]),
        (lambda: adapted(torchjd.IMTLG()), [0.5923, 0.4077]),
        (lambda: adapted(torchjd.AlignedMTL()), [0.5591, 0.4083]),
        (lambda: CAGrad(0.5), [0.7041, 0.5000]),
        (lambda: FairGrad(1.0), [0.5915, 0.4071]),
        (lambda: NashMTL(max_norm=0.0), [0.5915, 0.4071]),
    ],
)
def test_closed_form(weighting: Callable[[], Weighting], expected: list[float]) -> None:
    assert weighting()(CLOSED_FORM, step(0, 1)).tolist() == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("name", ["CAGrad", "FairGrad", "GradVac", "MGDA", "NashMTL"])
def test_a_name_that_torchjd_has_too_is_ours(name: str) -> None:
    parser = ArgumentParser()
    parser.add_argument("--balancer", type=Balancer)
    assert hasattr(torchjd, name)
    assert parser.parse_args(["--balancer", name]).balancer.class_path == f"app.balancing.{name}"


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fairgrad_solves_its_equation(alpha: float) -> None:
    for seed in range(10):
        matrix = gramian(5, seed)
        found = FairGrad(alpha)(matrix, step(*range(5)))
        assert matrix @ found == pytest.approx(found ** (-1 / alpha), rel=1e-9)


HARD: dict[str, Callable[[Tensor], Tensor]] = {
    "independent": lambda jacobian: jacobian,
    "cancelling": lambda jacobian: torch.cat([jacobian, -jacobian * (1 + 1e-9)]),
    "rank one": lambda jacobian: jacobian[:1] * torch.linspace(0.5, 3, len(jacobian)).double()[:, None],
    "rank one, both signs": lambda jacobian: jacobian[:1] * jacobian[:, :1],
    "copies": lambda jacobian: jacobian.repeat(3, 1),
    "nearly copies": lambda jacobian: jacobian[:1] + 1e-7 * jacobian,
    "of different sizes": lambda jacobian: jacobian * torch.logspace(-2, 2, len(jacobian)).double()[:, None],
    "tiny": lambda jacobian: 1e-10 * jacobian,
    "huge": lambda jacobian: 1e15 * jacobian,
}


@pytest.mark.parametrize("columns", [1, 6, 40])
@pytest.mark.parametrize("tasks", [2, 8, 20])
@pytest.mark.parametrize("kind", HARD)
def test_mgda_finds_the_shortest_combination(kind: str, tasks: int, columns: int) -> None:
    """Every x of the convex hull has x·d ≤ ‖x‖ for a unit d, so that min g·d is a bound from below."""
    generator = torch.Generator().manual_seed(tasks)
    for jacobian in torch.randn(5, tasks, columns, generator=generator, dtype=torch.float64):
        rows = HARD[kind](jacobian)
        found = MGDA()(rows @ rows.T, step(*range(len(rows))))
        assert (found >= 0).all()
        assert found.sum() == pytest.approx(1, abs=1e-12)
        shortest = found @ rows
        least = (rows @ shortest).min() / shortest.norm().clamp(min=1e-300)
        precision = 1e-7 * rows.norm(dim=1).min()  # of lengths, of which the Gramian has the squares
        assert shortest.norm() <= max(least * (1 + 1e-6), precision)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e15])
def test_nash_limits_the_update_at_the_true_scale(scale: float) -> None:
    matrix = gramian(3) * scale**2
    free, limited = NashMTL(max_norm=0.0)(matrix, step(0, 1, 2)), NashMTL(max_norm=0.5)(matrix, step(0, 1, 2))
    assert (free @ matrix @ free).sqrt() == pytest.approx(3**0.5)
    assert (limited @ matrix @ limited).sqrt() == pytest.approx(0.5)
    assert limited / free == pytest.approx(float(limited[0] / free[0]))
    assert NashMTL(max_norm=2.0)(matrix, step(0, 1, 2)) == pytest.approx(free)


def test_cagrad_moves_where_one_gradient_is_far_larger() -> None:
    for ratio in (1e4, 1e8, 1e16):
        matrix = torch.tensor([[1.0, 0.5 * ratio], [0.5 * ratio, ratio**2]], dtype=torch.float64)
        found = CAGrad(0.4)(matrix, step(0, 1))
        mean = torch.full((2,), 0.5, dtype=torch.float64)
        assert mean @ matrix @ found >= 0.59 * mean @ matrix @ mean  # 1 − c


def vaccine(grams: list[Tensor], beta: float) -> tuple[Tensor, Tensor]:
    """The last weights and the averages after steps of two tasks, by algorithm 1 on explicit vectors."""
    phi = torch.zeros(2, 2, dtype=torch.float64)
    for gram in grams:
        rows = torch.linalg.cholesky(gram)
        weights = torch.eye(2, dtype=torch.float64)
        for i, j in ((0, 1), (1, 0)):
            mine, other = rows[i], rows[j]
            cosine = mine @ other / (mine.norm() * other.norm())
            target = phi[i, j].clone()
            if cosine < target:
                sines = (1 - cosine**2).sqrt(), (1 - target**2).sqrt()
                weights[i, j] = mine.norm() * (target * sines[0] - cosine * sines[1]) / (other.norm() * sines[1])
            phi[i, j] = (1 - beta) * target + beta * cosine
    return weights.sum(0), phi


def test_gradvac_follows_its_averages() -> None:
    grams = [gramian(2, seed) for seed in range(6)]
    weighting = GradVac(beta=0.3)
    weighting.start(2)
    for gram in grams:
        found = weighting(gram, step(0, 1))
    weights, phi = vaccine(grams, 0.3)
    assert not torch.allclose(weights, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(found, weights, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(weighting.phi, phi, rtol=1e-6, atol=1e-6)


def test_gradvac_resumed_in_mid_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def go_on(weighting: GradVac, numbers: range) -> list[Tensor]:
        found = []
        for number in numbers:
            torch.manual_seed(number)
            found.append(weighting(gramian(4, number), step(0, 1, 2, 3, number=number)))
        return found

    whole, resumed = GradVac(), GradVac()
    whole.start(4)
    resumed.start(4)
    go_on(whole, range(3))
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for one, other in zip(go_on(whole, range(3, 6)), go_on(resumed, range(3, 6)), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.phi, resumed.phi)


def test_gradvac_leaves_an_absent_task_alone() -> None:
    weighting, alone = GradVac(), GradVac()
    weighting.start(4)
    alone.start(3)
    torch.manual_seed(0)
    weighting(gramian(4), step(0, 1, 2, 3))
    before = weighting.phi.clone()
    kept = torch.tensor([0, 1, 3])
    alone.phi.copy_(before[kept][:, kept])
    for w, present in ((weighting, (0, 1, 3)), (alone, (0, 1, 2))):
        torch.manual_seed(1)
        w(gramian(3, seed=1), step(*present))
    assert torch.equal(weighting.phi[2], before[2])
    assert torch.equal(weighting.phi[:, 2], before[:, 2])
    assert torch.equal(weighting.phi[kept][:, kept], alone.phi)
    assert not torch.equal(weighting.phi, before)


def test_order_of_tasks_is_drawn_from_the_seeded_generator() -> None:
    for weighting in (adapted(torchjd.PCGrad(), 4), GradVac()):
        found = []
        for seed in (0, 0, *range(1, 6)):
            weighting.start(4)
            torch.manual_seed(seed)
            found.append(weighting(gramian(4), step(0, 1, 2, 3)))
        assert torch.equal(found[0], found[1])
        assert any(not torch.equal(found[0], other) for other in found[2:])


def test_preferences_of_absent_tasks_are_left_out() -> None:
    matrix = gramian(3)[1:, 1:]
    whole, part = torch.tensor([9.0, 1.0, 3.0]), torch.tensor([1.0, 3.0], dtype=torch.float64)
    for rule in (torchjd.UPGrad, torchjd.DualProj, torchjd.AlignedMTL):
        aggregator = rule(pref_vector=whole)
        found = adapted(aggregator, 3)(matrix, step(1, 2))
        assert torch.equal(found, adapted(rule(pref_vector=part))(matrix, step(0, 1)))
        assert aggregator.gramian_weighting(gramian(3).float()).shape == (3,)  # as it was


def test_what_a_jacobian_rule_has_by_task_is_left_out_too() -> None:
    jacobian = torch.tensor([[1.0, -2.0], [-3.0, 4.0]])
    leaking = torchjd.GradDrop(leak=torch.tensor([0.0, 1.0, 1.0]))
    constant = torchjd.Constant(torch.tensor([7.0, 1.0, 2.0]))
    for aggregator, expected in ((leaking, [-2.0, 2.0]), (constant, [-5.0, 6.0])):
        rule = from_torchjd(aggregator, 3)
        assert isinstance(rule, TorchJDRule)
        assert rule(jacobian, step(1, 2)).tolist() == expected
        with restricted(aggregator, torch.tensor([1, 2]), jacobian):
            assert aggregator(jacobian).tolist() == expected
        assert aggregator(torch.ones(3, 2)).isfinite().all()


@pytest.mark.parametrize(
    "aggregator",
    [torchjd.GradDrop(), torchjd.ConFIG(), torchjd.TrimmedMean(1), torchjd.Mean(), torchjd.Sum(), torchjd.Random()],
    ids=str,
)
def test_a_rule_that_needs_the_jacobian_stays_itself(aggregator: torchjd.Aggregator) -> None:
    before = torch.random.get_rng_state()
    rule = from_torchjd(aggregator, 3)
    assert isinstance(rule, TorchJDRule)
    assert rule.aggregator is aggregator
    assert torch.equal(torch.random.get_rng_state(), before)


def test_graddrop_takes_a_column_without_a_gradient() -> None:
    found = torchjd.GradDrop()(torch.tensor([[0.0, 1.0, 1e8], [0.0, 2.0, -1e-8]]))
    assert found[:2].tolist() == [0.0, 3.0]
    assert found.isfinite().all()


def smoothed() -> torchjd.Aggregator:
    return torchjd.GramianWeightedAggregator(torchjd.CRMOGMWeighting(torchjd.MGDAWeighting()))


@pytest.mark.parametrize(
    ("aggregator", "message"),
    [
        (torchjd.GradVac, "found torchjd's GradVac (app.balancing.GradVac does)"),
        (torchjd.PCD, "must keep its state in checkpoints, found torchjd's PCD"),
        (torchjd.ExcessMTL, "must keep its state in checkpoints, found torchjd's ExcessMTL"),
        (smoothed, "must keep its state in checkpoints, found torchjd's GramianWeightedAggregator"),
        (lambda: torchjd.UPGrad(torch.ones(2)), "must have a value for each of the 3 tasks, found 2"),
        (lambda: torchjd.ConFIG(torch.ones(4)), "must have a value for each of the 3 tasks, found 4"),
        (lambda: torchjd.GradDrop(leak=torch.ones(1)), "must have a value for each of the 3 tasks, found 1"),
        (lambda: torchjd.Krum(n_byzantine=1), "should have at least 4 rows"),
        (lambda: torchjd.TrimmedMean(2), "at least 5 rows"),
    ],
)
def test_refusals_at_start_up(aggregator: Callable[[], torchjd.Aggregator], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.balancer: .*{re.escape(message)}"):
        from_torchjd(aggregator(), 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CAGrad(1.0), "model.balancer.c: must be at least 0 and below 1, found 1.0"),
        (lambda: CAGrad(-0.1), "model.balancer.c: must be at least 0 and below 1, found -0.1"),
        (lambda: FairGrad(0.0), "model.balancer.alpha: must be above 0, found 0.0"),
        (lambda: NashMTL(-1.0), "model.balancer.max_norm: must be at least 0, found -1.0"),
        (lambda: GradVac(1.5), "model.balancer.beta: must be at least 0 and at most 1, found 1.5"),
    ],
)
def test_refused_values(build: Callable[[], Weighting], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build()


@pytest.mark.parametrize(
    ("build", "solver"),
    [
        (CAGrad, "cvxpy"),
        (CAGrad, "clarabel"),
        (FairGrad, "scipy"),
        (NashMTL, "scipy"),
        (torchjd.UPGrad, "quadprog"),
        (torchjd.DualProj, "qpsolvers"),
    ],
)
def test_a_missing_solver_stops_at_construction(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[], object], solver: str
) -> None:
    monkeypatch.setitem(sys.modules, solver, None)  # Python's own way to say that it cannot be imported
    with pytest.raises(ImportError, match=rf"'{solver}'.*pip install"):
        build()
