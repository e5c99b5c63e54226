"""What a row costs: counted by hand, by layout, and in what is printed."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from schemes import LAYOUTS, ROWS, SCHEMES, TARGETS, TASKS, network_of

from app.network.cost import and_of_hard_sharing, multiply_adds
from app.network.network import Network
from models.backbones import MLP
from models.sharing import HardSharing, IndependentNetworks, MMoE, TensorFactorisation

TRUNK, HEADS = 12 * 8 + 8 * 5, 5 * (3 + 1 + 1)  # of the network below; the tasks have three classes, and a number each


def feeds_of(layout: str) -> torch.Tensor:
    feeds = torch.zeros(len(TASKS), ROWS, dtype=torch.bool)
    for task, rows in LAYOUTS[layout].items():
        feeds[TASKS.index(task), rows] = True
    return feeds


def mlp(sharing: Callable = HardSharing) -> Network:
    return Network(TARGETS, (12,), partial(MLP, hidden=(8, 5)), sharing)


def test_products_are_counted() -> None:
    every = torch.ones(len(TASKS), 8, dtype=torch.bool)
    assert multiply_adds(mlp(), every) == TRUNK + HEADS
    assert and_of_hard_sharing(mlp(IndependentNetworks), every) == (3 * TRUNK + HEADS, TRUNK + HEADS)
    gates = 12 * 2 * 3
    mixed = 2 * 5 * 3  # of both experts' features
    own, hard = and_of_hard_sharing(mlp(partial(MMoE, experts=2)), every)
    assert 2 * TRUNK + gates + HEADS <= own <= 2 * TRUNK + gates + mixed + HEADS
    assert hard == TRUNK + HEADS


def test_tasks_with_inputs_of_their_own_pay_for_their_own_rows() -> None:
    own, hard = and_of_hard_sharing(mlp(IndependentNetworks), torch.eye(3, dtype=torch.bool).repeat_interleave(32, 1))
    assert own == hard == pytest.approx(TRUNK + HEADS / 3)


def test_what_is_computed_once_a_step_is_divided_among_the_rows() -> None:
    """A factorised layer's weights, of its core and factors."""
    few, many = (torch.ones(len(TASKS), count, dtype=torch.bool) for count in (4, 400))
    once = [multiply_adds(mlp(TensorFactorisation), feeds) - 3 * TRUNK - HEADS for feeds in (few, many)]
    assert once[0] > 0
    assert once[0] == pytest.approx(100 * once[1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_counted_and_left_as_it_is(scheme: str, layout: str) -> None:
    backbone = "vit" if "adapters" in scheme else "resnet"
    network = network_of(scheme, backbone).float()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own, hard = and_of_hard_sharing(network, feeds_of(layout))
    assert own / hard > 0.9
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_is_printed(train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Path("own.yaml").write_text("model: {sharing: IndependentNetworks}")
    train_here("layers", "--config", str(SMALL), "--config", "own.yaml")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"# [\d,]+ multiply-adds a row, [34](\.\d+)? times those of hard sharing", lines[-1]), lines[-1]
    assert all(line.split()[3] == "0%" for line in lines[1:-1] if not line.startswith("# total"))
