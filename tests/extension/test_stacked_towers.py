"""The benchmark of stacked towers compares what gives the same gradients, and what its page says of it holds."""

import statistics
import sys

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import stacked_towers

from models.backbones import MLP, LeNet

WAYS = {
    "MLP, products": (lambda: MLP((32,), (16, 8)), (64, 32), stacked_towers.products),
    "MLP, mapped": (lambda: MLP((32,), (16, 8)), (64, 32), stacked_towers.mapped),
    "LeNet, grouped": (lambda: LeNet((1, 28, 28)), (8, 1, 28, 28), stacked_towers.grouped),
    "LeNet, mapped": (lambda: LeNet((1, 28, 28)), (8, 1, 28, 28), stacked_towers.mapped),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("from_start", [True, False])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_stack_has_the_gradients_of_the_loop(way: str, from_start: bool, device: str) -> None:
    make, shape, stacked = WAYS[way]
    bench = stacked_towers.Bench(make, torch.randn(shape, device=device))
    ours, theirs = bench.gradients(stacked, from_start), bench.gradients(stacked_towers.loop, False)
    assert max(each.abs().max().item() for each in theirs) > 1e-4
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
def test_products_of_small_towers_take_four_fifths_of_the_loop_at_most() -> None:
    torch.manual_seed(0)
    bench = stacked_towers.Bench(lambda: MLP((32,), (16, 8)), torch.randn(64, 32))
    assert statistics.median(bench.compare(stacked_towers.products, True)[0]) <= 0.8


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_on_a_gpu_the_ratio_is_measured_again(way: str) -> None:
    make, shape, stacked = WAYS[way]
    ratios = stacked_towers.Bench(make, torch.randn(shape, device="cuda")).compare(stacked, True)[0]
    print(f"{way}: {statistics.median(ratios):.2f} of the loop")
    assert statistics.median(ratios) < 1.5
