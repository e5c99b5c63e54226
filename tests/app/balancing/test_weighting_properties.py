"""Which properties hold for which gradient weighting."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import IMTLG, AlignedMTL, DualProj, PCGrad, UPGrad

from app.balancing.base import Weighting
from app.balancing.engine.step import Step
from app.balancing.methods.cagrad import CAGrad
from app.balancing.methods.fairgrad import FairGrad
from app.balancing.methods.gradvac import GradVac
from app.balancing.methods.mgda import MGDA
from app.balancing.methods.nash_mtl import NashMTL
from app.balancing.methods.torchjd_weighting import from_torchjd


@dataclass
class Method:
    """What a paper promises.

    Attributes:
        degree: Of homogeneity of its weights, in the Jacobian.
        conflicts: How far its update may go against a task: the smallest cosine of the two; None where they conflict.
        linear: Whether the update is linear in the scales of the gradients.
        random: Whether the order of the tasks is drawn.
    """

    make: Callable[[], Weighting]
    degree: float = 0
    conflicts: float | None = None
    linear: bool = False
    random: bool = False


def torchjd(aggregator: type) -> Callable[[], Weighting]:
    return lambda: from_torchjd(aggregator(), 3)  # type: ignore[return-value]


METHODS = {
    "AlignedMTL": Method(torchjd(AlignedMTL)),
    "CAGrad": Method(CAGrad),
    "DualProj": Method(torchjd(DualProj), conflicts=-2e-3),
    "FairGrad": Method(FairGrad, degree=-1, conflicts=0),
    "FairGrad(2)": Method(lambda: FairGrad(2.0), degree=-4 / 3, conflicts=0),
    "GradVac": Method(GradVac, linear=True, random=True),  # a first step, which is PCGrad's
    "IMTLG": Method(torchjd(IMTLG), conflicts=-1),  # no promise
    "MGDA": Method(MGDA, conflicts=0),
    "NashMTL": Method(NashMTL, degree=-1, conflicts=0),
    "PCGrad": Method(torchjd(PCGrad), linear=True, random=True),
    "UPGrad": Method(torchjd(UPGrad), conflicts=-2e-3, linear=True),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def jacobians(tasks: int, count: int) -> list[Tensor]:
    """Some in which the first task is at odds with the others."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(count, tasks, 6, generator=generator, dtype=torch.float64)
    drawn[:, 0] -= 0.7 * drawn[:, 1:].sum(1)
    return list(drawn)


def weights(method: Method, jacobian: Tensor) -> Tensor:
    weighting = method.make()
    weighting.start(len(jacobian))
    torch.manual_seed(0)
    found: Tensor = weighting(jacobian @ jacobian.T, Step(0, 0, torch.arange(len(jacobian))))
    return found


def cosines(jacobian: Tensor, update: Tensor) -> Tensor:
    both: Tensor = jacobian.norm(dim=1) * update.norm()
    return jacobian @ update / both


@every_method
def test_conflicts_are_those_of_the_paper(method: Method) -> None:
    found = [cosines(j, weights(method, j) @ j).min() for j in jacobians(3, 20)]
    if method.conflicts is None:
        assert min(found) < -0.01
    else:
        assert min(found) >= method.conflicts


@every_method
def test_direction_does_not_depend_on_the_order_of_tasks(method: Method) -> None:
    tasks = 2 if method.random else 3  # of two there is one order
    for jacobian in jacobians(tasks, 5):
        mixed = jacobian.roll(1, 0)
        update, other = weights(method, jacobian) @ jacobian, weights(method, mixed) @ mixed
        assert torch.nn.functional.cosine_similarity(update, other, dim=0) > 1 - 1e-10


@every_method
def test_linear_under_scaling(method: Method) -> None:
    one, two = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 0.5, 2.0], [0.5, 1.5, 1.0]))
    off = []
    for j in jacobians(3, 5):
        parts = [weights(method, scale[:, None] * j) @ (scale[:, None] * j) for scale in (one, two, one + two)]
        off.append((parts[0] + parts[1] - parts[2]).norm() / parts[2].norm())
    assert (max(off) < 1e-2) == method.linear


@every_method
@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e7, 1e15])
def test_homogeneous_at_every_scale(method: Method, scale: float) -> None:
    for jacobian in jacobians(3, 3):
        expected = weights(method, jacobian) * scale**method.degree
        torch.testing.assert_close(weights(method, scale * jacobian), expected, rtol=1e-6, atol=0)


@every_method
def test_moves_at_rank_one(method: Method) -> None:
    gradient = jacobians(1, 1)[0]
    for scales in ([1.0, 1.0], [1.0, 2.0, 5.0], [1.0, 1.0, 1e-3]):
        jacobian = torch.tensor(scales, dtype=torch.float64)[:, None] * gradient
        found = weights(method, jacobian)
        assert found.isfinite().all()
        assert (cosines(jacobian, found @ jacobian) > 1 - 1e-10).all()


@every_method
def test_moves_where_two_tasks_have_the_same_gradient(method: Method) -> None:
    for jacobian in jacobians(3, 5):
        jacobian = jacobian[[0, 1, 1]]
        found = weights(method, jacobian)
        assert found.isfinite().all()
        assert (found @ jacobian).norm() > 1e-3 * (jacobian.norm(dim=1) * found.abs()).max()


@every_method
@pytest.mark.parametrize("ratio", [1e4, 1e8, 1e16])
def test_moves_where_losses_have_different_scales(method: Method, ratio: float) -> None:
    for jacobian in jacobians(3, 3):
        jacobian[1] /= ratio**0.5
        jacobian[2] *= ratio**0.5
        found = weights(method, jacobian)
        assert found.isfinite().all()
        assert cosines(jacobian, found @ jacobian).max() > 0.1


@every_method
def test_a_task_on_its_own_is_followed(method: Method) -> None:
    jacobian = jacobians(1, 1)[0]
    found = weights(method, jacobian)
    assert found.shape == (1,)
    if method.degree:  # √1 long
        assert found == pytest.approx(float(jacobian.norm()) ** method.degree, rel=1e-10)
    else:
        assert found == pytest.approx(1.4 if method.make is CAGrad else 1)


@every_method
def test_gradients_that_cancel_are_finite(method: Method) -> None:
    gradient = jacobians(1, 1)[0]
    for jacobian in (torch.cat([gradient, -gradient]), torch.cat([gradient, -gradient * (1 + 1e-9)])):
        found = weights(method, jacobian)
        assert found.isfinite().all()
        assert (found @ jacobian).norm() < 1e-3 * gradient.norm()
