"""Sharing schemes on two synthetic tasks of chosen likeness: the experiment of the paper on MMoE, in small.

`python benchmarks/mmoe_pairs.py` draws pairs of tasks at cosines from 0.2 to 1 (`RelatedPair`), trains hard sharing,
OMoE, MMoE, PLE and independent networks on them, and prints the test error, the mean of both tasks' squared errors of
standardised labels, as mean ± standard error of five seeds of data and network. `--plot FILE` draws it.

MMoE has 8 experts of 16 units and towers of 8 (Ma et al. 2018, §3.2); the widths of the others are chosen so that all
have as many parameters, within 1 %. Adam with a cosine of the rate to 0; the rate, one of four for each scheme and
cosine, is the one with the least validation error of the first seed. The networks are the application's, trained in a
bare loop: a run of `train.py fit` would spend more on its set-up than on these 2,000 steps.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, vmap
from torch.func import functional_call, stack_module_state

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.network.network import Network
from datamodules.sources import SPLITS, RelatedPair, SplitName
from datamodules.targets import Continuous
from models.backbones import MLP
from models.heads import MLPHead
from models.sharing import PLE, HardSharing, IndependentNetworks, MMoE

COSINES, SEEDS, RATES = (0.2, 0.5, 0.8, 0.9, 1.0), range(5), (0.003, 0.01, 0.03)
STEPS, BATCH = 1_000, 128
MIXED = partial(MMoE, experts=8)
SCHEMES: dict[str, tuple[Callable, int]] = {  # and the number of layers of a path below the towers
    "hard sharing": (HardSharing, 1),
    "OMoE": (partial(MIXED, one_gate=True), 1),
    "MMoE": (MIXED, 1),
    "PLE": (partial(PLE, levels=[0, 1]), 2),
    "independent": (IndependentNetworks, 1),
}
WIDTH = 16  # of MMoE's experts


def build(scheme: str, dimension: int, width: int) -> Network:
    sharing, layers = SCHEMES[scheme]
    targets = {"first": Continuous(), "second": Continuous()}  # of labels that are standardised
    backbone = partial(MLP, hidden=[width] * layers)
    return Network(targets, (dimension,), backbone, sharing, partial(MLPHead, hidden=[8]))


def size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@cache
def width_of(scheme: str, dimension: int) -> int:
    """The width with which a scheme's number of parameters is nearest to MMoE's."""
    wanted = size(build("MMoE", dimension, WIDTH))
    return min(range(8, 160), key=lambda width: abs(size(build(scheme, dimension, width)) - wanted))


def matched(scheme: str, dimension: int) -> Network:
    """A new network with as many parameters as MMoE."""
    return build(scheme, dimension, width_of(scheme, dimension))


def rows_of(sources: list[RelatedPair], split: SplitName) -> tuple[Tensor, Tensor]:
    """Inputs [S, N, D] and labels [S, 2, N], standardised by the training split, of S sources."""
    x, y = [], []
    for source in sources:
        rows, train = source.split(split), source.split("train")
        fitted = [target.fitted(train.labels(task)) for task, target in source.targets.items()]
        x.append(rows.inputs)
        labels = zip(source.targets, fitted, strict=True)
        y.append(torch.stack([(rows.labels(task) - each.mean) / each.std for task, each in labels]))
    return torch.stack(x), torch.stack(y)


def errors_of(network: Network, parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Squared error [S, 2] of each task of S networks on a batch each."""
    everyone = dict.fromkeys(network.tasks, torch.arange(x.shape[1]))

    def outputs(own: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return torch.stack([each[:, 0] for each in functional_call(network, own, (inputs, everyone)).values()])

    return (vmap(outputs)(parameters, x) - y).square().mean(dim=2)


def train(scheme: str, sources: list[RelatedPair], rate: float, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Errors [S] of validation and test, mean of both tasks, of a network for each of S sources."""
    data = {split: rows_of(sources, split) for split in SPLITS}
    x, y = data["train"]
    networks = []
    for number in range(len(sources)):
        torch.manual_seed(number)
        networks.append(matched(scheme, x.shape[2]))
    parameters, _ = stack_module_state(networks)
    optimizer = torch.optim.Adam(parameters.values(), rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    each = torch.arange(len(sources))[:, None]
    for _ in range(steps):
        chosen = torch.randint(x.shape[1], (len(sources), BATCH))
        labels = y[each, :, chosen].transpose(1, 2)
        optimizer.zero_grad()
        errors_of(networks[0], parameters, x[each, chosen], labels).sum().backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        val, test = (errors_of(networks[0], parameters, *data[split]).mean(dim=1) for split in ("val", "test"))
    return val, test


def tried(scheme: str, sources: list[RelatedPair], steps: int = STEPS) -> tuple[Tensor, list[float]]:
    """The test error [S] on each source at the rate with the least validation error on it, and these rates."""
    val, test = (torch.stack(each) for each in zip(*(train(scheme, sources, r, steps) for r in RATES), strict=True))
    best = val.argmin(dim=0)
    return test.gather(0, best[None])[0], [RATES[number] for number in best]


def summary(errors: Tensor) -> tuple[float, float]:
    """Mean and standard error."""
    return errors.mean().item(), errors.std().item() / math.sqrt(len(errors))


def plot(path: Path, figures: dict[str, list[tuple[float, float]]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "mmoe_pairs"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for number, (scheme, each) in enumerate(figures.items()):
        places = [cosine + (number - 2) / 200 for cosine in COSINES]
        axes.errorbar(places, *zip(*each, strict=True), marker="o", capsize=3, label=scheme)
    axes.set(xlabel="cosine between the tasks' directions", ylabel="test error, share of variance", ylim=(0, None))
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    draw = partial(RelatedPair, options.dimension, sines=options.sines)
    sources = [draw(cosine, seed=seed) for cosine in COSINES for seed in SEEDS]
    table = Table("scheme", "width", "parameters", *map(str, COSINES))
    figures: dict[str, list[tuple[float, float]]] = {}
    for scheme in SCHEMES:
        errors, rates = tried(scheme, sources)
        print(scheme, rates, flush=True)
        figures[scheme] = [summary(each) for each in errors.split(len(SEEDS))]
        own = width_of(scheme, options.dimension), size(matched(scheme, options.dimension))
        table.add_row(scheme, *map(str, own), *(f"{mean:.4f} ± {error:.4f}" for mean, error in figures[scheme]))
    Console(width=150).print(table)
    if options.plot:
        plot(options.plot, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, default=100, help="of the inputs")
    parser.add_argument("--sines", type=int, default=6, help="of a label")
    parser.add_argument("--plot", type=Path, help="file to draw the errors into")
    main(parser.parse_args())
