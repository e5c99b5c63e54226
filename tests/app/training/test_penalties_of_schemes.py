"""The penalty of a sharing scheme in training, and layers of weights that mix."""

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, scalars

from app.training.penalties import penalties_of
from models.backbones import MLP, BackboneBuilder
from models.sharing import Sluice, SoftSharing

SOFT = {"class_path": "SoftSharing", "init_args": {"strength": 0.5}}


def distance(sharing: SoftSharing) -> torch.Tensor:
    flat = torch.stack([torch.cat([p.flatten() for p in net.parameters()]) for net in sharing.networks.values()])
    return (flat - flat.mean(dim=0)).norm()


@pytest.mark.parametrize(("rate", "apart"), [(0.3, False), (0.99, False), (1.01, True)])
def test_distance_shrinks_by_the_factor_of_the_docstring(rate: float, apart: bool) -> None:
    """Of ηλT: 1 − 2ηλT; above 1 it grows, and that is told once."""
    torch.manual_seed(0)
    sharing = SoftSharing(lambda: MLP((3,), (4,)), ["a", "b"], strength=0.5).double()
    optimizer = torch.optim.SGD(sharing.parameters(), lr=rate)
    penalties, before, told = penalties_of(sharing), distance(sharing), 0
    for _ in range(3):
        for parameter in sharing.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with warnings.catch_warnings(record=True, action="always") as warned:
            penalties.add_gradients(optimizer, None)
        told += sum("learning rate must be at most 1 under this penalty" in str(each.message) for each in warned)
        optimizer.step()
        after = distance(sharing)
        torch.testing.assert_close(after, before * abs(1 - 2 * rate))
        assert bool(after > before) == apart
        before = after
    assert told == apart


def test_penalty_pulls_no_absent_task_and_nothing_frozen() -> None:
    torch.manual_seed(0)
    sharing = SoftSharing(lambda: MLP((3,), (4,)), ["a", "b", "c"], strength=0.5)
    sharing.networks["c"].requires_grad_(False)
    for parameter in sharing.task_parameters("a"):
        parameter.grad = torch.zeros_like(parameter)
    penalties_of(sharing).add_gradients(torch.optim.Adam(sharing.parameters()), None)
    assert all(parameter.grad.any() for parameter in sharing.task_parameters("a"))
    assert all(p.grad is None for task in ("b", "c") for p in sharing.task_parameters(task))


def test_penalty_of_what_is_frozen_alone_pulls_at_nothing() -> None:
    sharing = Sluice(BackboneBuilder(partial(MLP, hidden=(4,)), (3,)), ["a", "b"], strength=0.5)
    sharing.networks.requires_grad_(False)
    for parameter in sharing.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    penalties_of(sharing).add_gradients(torch.optim.Adam(sharing.parameters()), None)
    assert sharing.mixing_weights()["alpha"]
    assert not any(p.grad.any() for p in sharing.parameters() if p.grad is not None)


def test_run_shows_its_penalty(train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "soft.yaml").write_text(yaml.safe_dump({"model": {"sharing": SOFT}}))
    cli = train_here("fit", "--config", str(SMALL), "--config", "soft.yaml", "--trainer.max_epochs", "2")
    curve = [value for _, value in scalars(tmp_path / "runs/small/version_0")["penalty/sharing"]]
    assert len(curve) == 16
    assert curve[-1] < curve[0]
    assert cli.model.penalties.values()["penalty/sharing"] > 0


MIXED = {
    "CrossStitch": {"rate": 10.0},
    "Sluice": {"rate": 10.0},
    "MMoE": {"experts": 2},
    "CGC": {"from_stage": 1},
    "PLE": {"levels": [0, 1]},
}


@pytest.mark.parametrize("scheme", MIXED)
def test_what_mixes_is_a_layer_that_every_preset_trains(
    train_here: Callable, tmp_path: Path, scheme: str, capsys: pytest.CaptureFixture
) -> None:
    sharing = {"class_path": scheme, "init_args": MIXED[scheme]}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"model": {"sharing": sharing, "layers": {"decay": 0.5}}}))
    layer = "sharing.alpha" if scheme in ("CrossStitch", "Sluice") else "sharing.gates"
    train_here("layers", "--config", str(SMALL), "--config", "mix.yaml", "--schedule", "gradual_unfreeze")
    text = capsys.readouterr().out
    listed = next(line.split() for line in text.splitlines() if layer in line)
    assert listed[-1] == ("10" if layer == "sharing.alpha" else "1")
    phases = yaml.safe_load(text)["schedule"]
    assert len(phases) == 4
    assert all(layer in phase["train"] or "*" in phase["train"] for phase in phases)

    cli = train_here(
        "fit", "--config", str(SMALL), "--config", "mix.yaml", "--schedule", "linear_probe", "--trainer.max_epochs", "1"
    )
    (group,) = [each for each in cli.trainer.optimizers[0].param_groups if each["layer"] == layer]
    assert group["weight_decay"] == 0
    states = [cli.trainer.optimizers[0].state[parameter] for parameter in group["params"]]
    assert all(states)
    frozen = [p for name, p in cli.model.network.sharing.named_parameters() if not p.requires_grad]
    assert frozen
    assert json.loads((tmp_path / "runs/small/version_0/results.json").read_text())["tasks"].keys() == {
        "left", "right", "sum", "parity"
    }  # fmt: skip
