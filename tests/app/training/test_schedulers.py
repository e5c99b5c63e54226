"""Rates at every step, against the formula written out as a loop."""

import math
import warnings
from pathlib import Path

import pytest
import torch

from app.training.schedulers import WarmupCosine

RATES = (0.1, 0.003, 2.0)


def optimizer(rates: tuple[float, ...] = RATES) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def run(scheduler: WarmupCosine, steps: int) -> list[list[float]]:
    """The rates that each of `steps` steps is made with."""
    made_with = []
    for _ in range(steps):
        made_with.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return made_with


def factors(warmup: int, total: int, final: float) -> list[float]:
    """Equal increments up to one, then a half-turn down to `final`, and nothing more after the end."""
    up, factor = [], 0.0
    for _ in range(warmup):
        factor += 1 / (warmup + 1)
        up.append(factor)
    down = [(1 + final) / 2 + (1 - final) / 2 * math.cos(math.pi * i / (total - warmup)) for i in range(total - warmup)]
    return [*up, *down, final, final]


@pytest.mark.parametrize(
    ("warmup", "total", "final"), [(0, 10, 0.0), (1, 10, 0.0), (5, 40, 0.1), (9, 10, 0.5), (0, 1, 0.2), (3, 7, 1.0)]
)
def test_rates_are_the_closed_form_at_every_step(warmup: int, total: int, final: float) -> None:
    found = run(WarmupCosine(optimizer(), warmup, final, total_steps=total), total + 2)
    expected = [[rate * factor for rate in RATES] for factor in factors(warmup, total, final)]
    for step, rates in enumerate(found):
        assert rates == pytest.approx(expected[step], rel=1e-9, abs=1e-12), step


def test_groups_keep_their_ratio() -> None:
    for rates in run(WarmupCosine(optimizer(), 4, 0.01, total_steps=20), 20):
        assert [rate / rates[0] for rate in rates] == pytest.approx([rate / RATES[0] for rate in RATES], rel=1e-12)
        assert min(rates) > 0


@pytest.mark.parametrize("at", [0, 2, 5, 13])
def test_resumed_schedule_goes_on_bit_for_bit(tmp_path: Path, at: int) -> None:
    whole = WarmupCosine(optimizer(), 4, 0.1, total_steps=20)
    run(whole, at)
    torch.save({"scheduler": whole.state_dict(), "optimizer": whole.optimizer.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = WarmupCosine(optimizer(), 4, 0.1, total_steps=20)
    resumed.optimizer.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["scheduler"])
    assert resumed.get_last_lr() == whole.get_last_lr()
    assert run(resumed, 20 - at) == run(whole, 20 - at)


def test_resumed_schedule_has_the_length_of_the_new_configuration() -> None:
    short = WarmupCosine(optimizer(), 2, total_steps=10)
    run(short, 10)
    longer = WarmupCosine(optimizer(), 2, total_steps=30)
    longer.optimizer.load_state_dict(short.optimizer.state_dict())
    longer.load_state_dict(short.state_dict())
    assert run(longer, 20)[1:] == run(WarmupCosine(optimizer(), 2, total_steps=30), 30)[11:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": -1, "total_steps": 5}, r"model\.lr_scheduler\.warmup_steps: must not be negative, found -1"),
        ({}, r"model\.lr_scheduler\.total_steps: must be given for a run without end, found None"),
    ],
)
def test_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        WarmupCosine(optimizer(), **options)


@pytest.mark.parametrize("warmup", [5, 8])
def test_a_run_within_its_warm_up_warns_and_only_climbs(warmup: int) -> None:
    with pytest.warns(UserWarning, match=f"^the run ends after 5 steps, within the warm-up of {warmup}$"):
        scheduler = WarmupCosine(optimizer(), warmup, total_steps=5)
    first = [rates[0] for rates in run(scheduler, 5)]
    assert first == pytest.approx([RATES[0] * (step + 1) / (warmup + 1) for step in range(5)])


def test_a_usual_run_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(WarmupCosine(optimizer(), 4, total_steps=5), 5)
