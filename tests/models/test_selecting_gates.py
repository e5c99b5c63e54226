"""Gates that select few of the experts: their formula by hand, and where their terms go."""

import re
from typing import Any

import pytest
import torch
from schemes import TASKS as NETWORK_TASKS
from schemes import batch_of, network_of

from models.backbones import MLP, BackboneBuilder
from models.errors import ConfigurationError
from models.sharing import DSelectK

TASKS = ["left", "right", "train"]
ROWS = {"left": torch.arange(4), "train": torch.tensor([1, 3])}
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build(**options: Any) -> DSelectK:
    torch.manual_seed(0)
    return DSelectK(BackboneBuilder(lambda shape: MLP(shape, (5, 4, 3)), (6,)), TASKS, **options).double()


def test_a_selecting_gate_by_hand() -> None:
    """Codes far from 0 are decided: selector 0 takes expert 1, selector 1 takes expert 2; then one between two."""
    sharing = build(by_row=False, entropy=0.5)
    for gate in sharing.gates.values():
        gate.fixed.values.data = torch.tensor([0.0, 9.0, -9.0, 1.0, -9.0, 9.0], dtype=torch.float64)
    weights = sharing.gates["left"](torch.zeros(1, 6))
    shares = torch.tensor([0.0, 1.0], dtype=torch.float64).softmax(dim=0)
    torch.testing.assert_close(weights, torch.stack([0 * shares[0], *shares, 0 * shares[0]]).unsqueeze(0))
    assert sharing.penalty().item() == pytest.approx(0, abs=1e-5)
    sharing.gates["left"].fixed.values.data[2] = 0.25  # a smooth step of -2/64 + 3/8 + 1/2 = 27/32
    s = torch.tensor(27 / 32, dtype=torch.float64)
    expected = torch.stack([0 * s, shares[0] * (1 - s), shares[1], shares[0] * s])
    torch.testing.assert_close(sharing.gates["left"](torch.zeros(1, 6)), expected.unsqueeze(0))
    assert sharing.penalty().item() == pytest.approx(0.5 * -(s * s.log() + (1 - s) * (1 - s).log()).item(), abs=1e-5)


def test_codes_without_an_expert_have_a_term() -> None:
    sharing = build(experts=3, selected=1, by_row=False, entropy=1.0)
    for gate in sharing.gates.values():
        gate.fixed.values.data = torch.zeros(3, dtype=torch.float64)  # each of four codes has a quarter
    entropy, outside = -3 * 0.25 * torch.tensor(0.25).log().item(), 1 / 0.75
    assert sharing.penalty().item() == pytest.approx(len(TASKS) * (entropy + outside), abs=1e-4)


def test_terms_of_gates_that_see_rows_are_of_the_rows_of_their_task() -> None:
    sharing = build(entropy=0.1)
    sharing(X, ROWS)
    terms = sharing.take_row_terms()
    assert terms.keys() == ROWS.keys()
    first = 0.1 * 2 * 4 * 2 * 0.6931  # of four rows, two selectors of two undecided bits
    assert terms["left"].item() == pytest.approx(first, rel=0.01)
    sharing.eval()(X, ROWS)
    assert not sharing.take_row_terms()


def test_terms_are_part_of_the_losses_of_a_training_alone() -> None:
    network, batch = network_of("dselect-k", "mlp"), batch_of("partial")
    outputs = network(batch.inputs, batch.rows)
    terms = network.sharing.take_row_terms()
    bare, whole = network.losses(batch, outputs), network.losses(batch, network(batch.inputs, batch.rows))
    for task in NETWORK_TASKS:
        assert terms[task] > 0
        torch.testing.assert_close(whole[task] - bare[task], terms[task])
    network.eval()
    evaluated = network.losses(batch, network(batch.inputs, batch.rows))
    torch.testing.assert_close(evaluated, bare)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"experts": 1}, "model.sharing.experts: must be at least 2, found 1"),
        ({"selected": 5}, "model.sharing.selected: must be from 1 to 4, the experts, found 5"),
        ({"smoothness": 0.0}, "model.sharing.smoothness: must be finite and greater than 0, found 0.0"),
        ({"entropy": -1.0}, "model.sharing.entropy: must be finite and not negative, found -1.0"),
    ],
)
def test_what_cannot_be_selected_is_refused_by_its_key(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(line)}$"):
        build(**options)
