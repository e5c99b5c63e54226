"""Where each method ends on the two-objective toy of Lin et al., "Pareto Multi-Task Learning" (2019)."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import MGDA, PCGrad, UPGrad

from app.balancing.base import Weighting
from app.balancing.engine.step import Step
from app.balancing.methods.cagrad import CAGrad
from app.balancing.methods.nash_mtl import NashMTL
from app.balancing.methods.torchjd_weighting import from_torchjd

STARTS = ((0.3, 0.5), (-0.9, 0.2), (0.1, -0.6))
MINIMA = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64) / 2**0.5


class PlainSum(Weighting):
    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        return torch.ones(len(gramian), dtype=torch.float64)


def losses(x: Tensor) -> Tensor:
    """1 − exp(−‖x ∓ 1/√n‖²), n = 2."""
    return 1 - torch.exp(-(x - MINIMA).square().sum(1))


def end(weighting: Weighting, start: tuple[float, float]) -> Tensor:
    """The losses after 600 steps of SGD, or before where nothing moves any more: none of these rules has a state."""
    x = torch.tensor(start, dtype=torch.float64)
    for number in range(600):
        jacobian = 2 * (x - MINIMA) * (1 - losses(x))[:, None]
        gramian = jacobian @ jacobian.T
        alive = gramian.diagonal() > 0
        torch.manual_seed(number)
        weights = weighting(gramian[alive][:, alive], Step(number, 0, torch.arange(2)[alive]))
        before, x = x, x - 0.1 * weights @ jacobian[alive]
        if (x - before).abs().max() < 1e-6:
            break
    return losses(x)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("weighting", [PlainSum, CAGrad])
def test_ends_at_an_end_of_the_front(weighting: Callable[[], Weighting], start: tuple[float, float]) -> None:
    assert end(weighting(), start).max() > 0.97


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "weighting",
    [
        lambda: from_torchjd(MGDA(), 2),
        lambda: from_torchjd(UPGrad(), 2),
        lambda: from_torchjd(PCGrad(), 2),
        NashMTL,
        lambda: NashMTL(max_norm=0.0),
    ],
    ids=["MGDA", "UPGrad", "PCGrad", "NashMTL", "NashMTL without a limit"],
)
def test_ends_inside_the_front(weighting: Callable[[], Weighting], start: tuple[float, float]) -> None:
    assert end(weighting(), start).max() < 0.95
