"""What T equal networks cost as one stacked call, over a loop: time of a forward and a backward pass.

`python benchmarks/stacked_towers.py [--device cuda]` prints the ratio to the loop, median (quartiles) of pairs of
blocks in alternating order in one process, of CPU time on the CPU, and the largest difference of gradients. Stacked
from the start: weights [T, ...] are the parameters. Stacked in each step: parameters of their own are stacked in the
forward pass, as a scheme must do that keeps its parameters' names. Linear layers are products of stacks (`baddbmm`) or
`vmap` of one network; convolutions are grouped, or `vmap`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, vmap
from torch.func import functional_call, stack_module_state

sys.path.insert(0, str(Path(__file__).parents[1]))
from models.backbones import MLP, LeNet
from models.backbones.base import Backbone

TOWERS, PAIRS, BLOCK = 8, 9, 0.1  # BLOCK: about so many seconds
Weights = dict[str, Tensor]
Way = Callable[[list[Backbone], Weights, Tensor], Tensor]


def products(towers: list[Backbone], weights: Weights, x: Tensor) -> Tensor:
    """[T, B, C] of MLPs."""
    y = x.expand(len(towers), *x.shape)
    for layer in range(len(towers[0].channels)):
        matrix, bias = (weights[f"layers.{layer}.1.{name}"] for name in ("weight", "bias"))
        y = torch.baddbmm(bias[:, None], y, matrix.transpose(1, 2)).relu()
    return y


def grouped(towers: list[Backbone], weights: Weights, x: Tensor) -> Tensor:
    """[T, B, C] of LeNets."""
    y = x.repeat(1, len(towers), 1, 1)
    for layer in range(len(towers[0].channels) - 1):
        kernels, bias = (weights[f"layers.{layer}.0.{name}"].flatten(0, 1) for name in ("weight", "bias"))
        y = F.max_pool2d(F.conv2d(y, kernels, bias, groups=len(towers)), 2).relu()
    y = y.view(len(x), len(towers), -1).transpose(0, 1)
    last = f"layers.{len(towers[0].channels) - 1}.1."
    return torch.baddbmm(weights[f"{last}bias"][:, None], y, weights[f"{last}weight"].transpose(1, 2)).relu()


def mapped(towers: list[Backbone], weights: Weights, x: Tensor) -> Tensor:
    return vmap(lambda own: functional_call(towers[0], own, (x,))[-1])(weights)


def loop(towers: list[Backbone], weights: Weights, x: Tensor) -> Tensor:
    return torch.stack([tower(x)[-1] for tower in towers])


class Bench:
    """Equal networks on one batch, and a block of steps of each way; a way's gradients stay for comparison."""

    def __init__(self, make: Callable[[], Backbone], x: Tensor) -> None:
        torch.manual_seed(0)
        self.towers, self.x = [make().to(x) for _ in range(TOWERS)], x
        self.stack = stack_module_state(self.towers)[0]
        self.steps = 1
        self.seconds(loop, False)
        self.steps = max(1, round(BLOCK / self.seconds(loop, False)))

    def stacked_now(self) -> Weights:
        each = [dict(tower.named_parameters()) for tower in self.towers]
        return {name: torch.stack([own[name] for own in each]) for name in each[0]}

    def seconds(self, way: Way, from_start: bool) -> float:
        """Of a step."""
        clock = time.perf_counter if self.x.is_cuda else time.process_time
        start = clock()
        for _ in range(self.steps):
            for parameter in [*self.stack.values(), *(p for tower in self.towers for p in tower.parameters())]:
                parameter.grad = None
            weights = {} if way is loop else self.stack if from_start else self.stacked_now()
            way(self.towers, weights, self.x).square().mean().backward()
        if self.x.is_cuda:
            torch.cuda.synchronize()
        return (clock() - start) / self.steps

    def gradients(self, way: Way, from_start: bool) -> list[Tensor]:
        self.seconds(way, from_start)
        if from_start:
            return [each.grad for each in self.stack.values()]
        named = [dict(tower.named_parameters()) for tower in self.towers]
        return [torch.stack([own[name].grad for own in named]) for name in named[0]]

    def compare(self, way: Way, from_start: bool) -> tuple[list[float], float, float]:
        """Ratios to the loop, its seconds a step, and the largest difference of gradients."""
        ours, theirs = self.gradients(way, from_start), self.gradients(loop, False)
        difference = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
        ratios, looped = [], []
        for number in range(PAIRS):
            order = [(way, from_start), (loop, False)]
            times = {each[0]: self.seconds(*each) for each in (order if number % 2 else order[::-1])}
            ratios.append(times[way] / times[loop])
            looped.append(times[loop])
        return ratios, statistics.median(looped), difference


def main(device: str) -> None:
    torch.set_num_threads(1)
    table = Table(
        "networks", "batch", "way", "loop, ms", "stacked from the start", "stacked in each step", "difference"
    )
    mlps = [("MLP 32-16-8", 32, (16, 8)), ("MLP 64-256-128", 64, (256, 128))]
    cases = [(name, lambda i=i, h=h: MLP((i,), h), (64, i), products) for name, i, h in mlps]
    cases += [(f"LeNet, {rows} rows", lambda: LeNet((1, 28, 28)), (rows, 1, 28, 28), grouped) for rows in (64, 256)]
    for name, make, shape, stacked in cases:
        bench = Bench(make, torch.randn(shape, device=device))
        for way in (stacked, mapped):
            cells, worst = [], 0.0
            for from_start in (True, False):
                ratios, seconds, difference = bench.compare(way, from_start)
                low, middle, high = statistics.quantiles(ratios, n=4)
                cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
                worst = max(worst, difference)
            table.add_row(name, str(shape[0]), way.__name__, f"{seconds * 1e3:.2f}", *cells, f"{worst:.0e}")
            print(name, way.__name__, *cells, flush=True)
    Console(width=140).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    main(parser.parse_args().device)
