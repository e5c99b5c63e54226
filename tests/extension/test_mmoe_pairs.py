"""The benchmark of synthetic pairs compares networks of one size, and finds what must be so."""

import sys

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import mmoe_pairs

from datamodules.sources import RelatedPair


@pytest.mark.parametrize("dimension", [20, 100])
@pytest.mark.parametrize("scheme", mmoe_pairs.SCHEMES)
def test_every_scheme_has_as_many_parameters_as_mmoe(scheme: str, dimension: int) -> None:
    wanted = mmoe_pairs.size(mmoe_pairs.matched("MMoE", dimension))
    assert wanted == 8 * (dimension + 1) * 16 + 2 * 8 * dimension + 2 * (17 * 8 + 9)
    assert mmoe_pairs.size(mmoe_pairs.matched(scheme, dimension)) == pytest.approx(wanted, rel=0.01)


@pytest.mark.slow
def test_on_equal_tasks_hard_sharing_is_not_worse_than_independent_networks() -> None:
    sources = [RelatedPair(20, 1.0, sines=2, seed=seed) for seed in range(5)]
    (hard, error), (alone, other) = (
        mmoe_pairs.summary(mmoe_pairs.tried(scheme, sources, 300)[0]) for scheme in ("hard sharing", "independent")
    )
    assert max(hard, alone) < 0.1  # of the variance: both have learned
    assert hard <= alone + 2 * (error**2 + other**2) ** 0.5


def test_networks_that_are_trained_at_once_are_trained_as_if_alone() -> None:
    sources = [RelatedPair(5, 0.5, sines=1, train_rows=64, val_rows=8, test_rows=8, seed=seed) for seed in range(2)]
    x, y = mmoe_pairs.rows_of(sources, "val")
    networks = [mmoe_pairs.matched("MMoE", 5) for _ in sources]
    together = mmoe_pairs.errors_of(networks[0], torch.func.stack_module_state(networks)[0], x, y)
    for network, own, labels, errors in zip(networks, x, y, together, strict=True):
        outputs = network(own, dict.fromkeys(network.tasks, torch.arange(8)))
        alone = [(outputs[task][:, 0] - label).square().mean() for task, label in zip(outputs, labels, strict=True)]
        assert torch.allclose(torch.stack(alone), errors, atol=1e-6)
