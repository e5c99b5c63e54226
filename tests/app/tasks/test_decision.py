"""What the validation split sets of a binary task."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from app.tasks import Task, TaskConfig, task_of
from app.tasks.decision import Decision, best_temperature
from datamodules.targets import Binary, Categorical


def binary(**config: object) -> Task:
    return task_of("sick", Binary(("healthy", "sick")), TaskConfig(**config))


def logits(temperature: float = 3.0, size: int = 2000) -> tuple[Tensor, Tensor]:
    """Logits that are `temperature` times too large, with rare positives."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(size, generator=generator, dtype=torch.float64) * 1.5 - 2
    positive = torch.rand(size, generator=generator, dtype=torch.float64) < true.sigmoid()
    return true * temperature, positive


def test_by_default_one_half_decides_and_nothing_is_in_a_checkpoint() -> None:
    task = binary()
    assert not task.decision.state_dict()
    assert task.decode(torch.tensor([[0.01], [-0.01]]))["sick"] == ["sick", "healthy"]
    before = task.decision.threshold
    task.decision.fit(*logits())
    assert task.decision.threshold == before


def test_a_number_decides_everywhere() -> None:
    task = binary(threshold=0.2)
    assert task.decode(torch.tensor([[-1.0], [-2.0]]))["sick"] == ["sick", "healthy"]
    assert {metric.threshold for metric in task.metrics().values()} == {0.2}
    assert not task.decision.is_fitted


def test_what_is_set_is_kept() -> None:
    task, other = binary(threshold="f1", calibrate=True), binary(threshold="f1", calibrate=True)
    task.decision.fit(*logits())
    other.load_state_dict(task.state_dict())
    assert 0.05 < float(other.decision.threshold) < 0.45
    assert float(other.decision.temperature) == pytest.approx(3, rel=0.2)
    outputs = logits()[0][:50, None]
    assert other.decode(outputs) == task.decode(outputs)
    column = other.decode(outputs)["sick_probability_sick"]
    assert column == pytest.approx((outputs[:, 0] / other.decision.temperature).sigmoid().tolist())
    said = [name == "sick" for name in other.decode(outputs)["sick"]]
    assert said == [p > float(other.decision.threshold) for p in column]


def test_the_temperature_has_the_least_cross_entropy() -> None:
    given, positive = logits()
    signs = np.where(positive, 1, -1) * given.numpy()
    reference = minimize_scalar(lambda t: np.logaddexp(0, -signs / t).sum(), bounds=(0.01, 100), method="bounded")
    assert best_temperature(given, positive) == pytest.approx(reference.x, rel=1e-4)


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.01), (-1, 100)])
def test_the_temperature_has_bounds(sign: int, expected: float) -> None:
    given = torch.tensor([-2.0, 3.0], dtype=torch.float64) * sign
    assert best_temperature(given, torch.tensor([False, True])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "positive"),
    [([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False]), ([1.0, torch.nan], [True, False]), ([], [])],
)
def test_rows_that_tell_nothing_leave_it_as_it_is(given: list[float], positive: list[bool]) -> None:
    decision = Decision("f1", calibrate=True)
    decision.fit(torch.tensor(given, dtype=torch.float64), torch.tensor(positive, dtype=torch.bool))
    assert (float(decision.threshold), float(decision.temperature)) == (0.5, 1.0)


def test_logits_are_found_back() -> None:
    decision = Decision("f1", calibrate=True)
    decision.fit(*logits())
    given = torch.tensor([-600.0, -30.0, -1.0, 0.0, 20.0], dtype=torch.float64)
    assert decision.logits(decision.probabilities(given)).tolist() == pytest.approx(given.tolist(), rel=1e-6, abs=1e-9)
    assert decision.logits(torch.tensor([0.0, 1.0])).isfinite().all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"threshold": 1.0}, r"threshold: must be in \(0, 1\), or balanced_accuracy or f1, found 1.0"),
        ({"threshold": "auroc"}, r"threshold: must be in \(0, 1\), or balanced_accuracy or f1, found auroc"),
    ],
)
def test_refused(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.tasks\.sick\.{message}$"):
        binary(**config)


@pytest.mark.parametrize("config", [{"threshold": "f1"}, {"threshold": 0.3}, {"calibrate": True}])
def test_others_have_none(config: dict) -> None:
    with pytest.raises(ValueError, match="is not for a target of kind Categorical"):
        task_of("kind", Categorical(("a", "b")), TaskConfig(**config))
