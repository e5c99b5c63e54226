"""What one step of each method costs over a step on the plain sum of the losses: time and peak memory.

`python benchmarks/step_cost.py` prints a markdown table a case; `... --cases NAME [NAME ...] --rounds 25` some of them.
Forward pass, losses, gradients and SGD's step on random data, the same network and data for all. Each method's steps
alternate with plain ones in the same process, and a ratio is the median over such pairs, beside their quartiles. Peak
memory is the growth of a process of its own, from before the network is built. Beside ours there are TorchJD's
`mtl_backward` and `jac_to_grad`, and LibMTL's procedure: T backward passes, flattened copies, a product of matrices.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

sys.path.insert(0, str(Path(__file__).parents[1]))
from app import balancing
from app.balancing import GradientConfig, MicroBatch, Parameters, Step, Update
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.layer_gramians import LayerGramians
from app.balancing.engine.row_gramians import RowGramians
from models.backbones import TimmBackbone
from models.heads import LinearHead
from models.sharing import HardSharing

CLASSES = 10
SCALARIZERS = "FixedWeights RLW UncertaintyWeighting DWA GLS IMTLL STCH WorstCase ExponentiatedGradient FAMO GradNorm"
EXACT = ["TorchJD", "LibMTL's procedure", "Jacobian", "layer Gramians", "UPGrad"]
PEERLESS = ["Jacobian", "one pass", "UPGrad"]


@dataclass
class Case:
    network: str
    size: int
    tasks: int
    methods: list[str]
    rows: int = 32
    own_rows: bool = False
    norm: str = "batch"


CASES = {
    "losses": Case("resnet18", 32, 3, [*SCALARIZERS.split(), "UPGrad, features"]),
    "three": Case("resnet18", 32, 3, EXACT),
    "eight": Case("resnet18", 32, 8, EXACT),
    "resnet18-64": Case("resnet18", 64, 8, EXACT),
    "resnet50-64": Case("resnet50", 64, 8, EXACT),
    "own-batch": Case("resnet18", 32, 8, PEERLESS, own_rows=True),
    "own-group": Case("resnet18", 32, 8, PEERLESS, own_rows=True, norm="group"),
    "own-frozen": Case("resnet18", 32, 8, PEERLESS, own_rows=True, norm="frozen"),
}


class Bench:
    """A network with its data, and one step of each method.

    The plain step of tasks with rows of their own runs through batch normalisation over all rows; ours by task.
    """

    def __init__(self, case: Case, by_task: bool) -> None:
        torch.manual_seed(0)
        self.case, names = case, [f"task{i}" for i in range(case.tasks)]
        backbone = partial(TimmBackbone, (3, case.size, case.size), case.network)
        self.sharing = HardSharing(backbone, names, statistics="task" if by_task else "batch")
        set_norms(self.sharing, case.norm)
        self.passed_on = nn.Identity()  # the features that all tasks read, as in `app.network`
        self.heads = nn.ModuleList(LinearHead(self.sharing.channels[name], CLASSES) for name in names)
        batch = case.rows * (case.tasks if case.own_rows else 1)
        self.inputs = torch.randn(batch, 3, case.size, case.size)
        everyone = torch.arange(batch)
        rows = everyone.split(case.rows) if case.own_rows else [everyone] * case.tasks
        self.rows = dict(zip(names, rows, strict=True))
        self.labels = torch.randint(CLASSES, (case.tasks, case.rows))
        own = [list(head.parameters()) for head in self.heads]
        self.parameters = Parameters(list(self.sharing.parameters()), own, self.sharing.compared_weights())
        self.optimizer = torch.optim.SGD([*self.parameters.shared, *self.parameters.all_own()], 1e-4)
        self.weights = torch.ones(case.tasks, dtype=torch.float64)
        self.features: list[Tensor] = []
        self.number = 0

    def losses(self) -> list[Tensor]:
        shared = self.passed_on(self.sharing.shared_features(self.inputs, self.rows))
        features = self.sharing.task_features(shared, self.rows)
        self.features = [feature[-1] for feature in features.values()]
        outputs = [head(feature) for head, feature in zip(self.heads, features.values(), strict=True)]
        return [F.cross_entropy(output, labels) for output, labels in zip(outputs, self.labels, strict=True)]

    def plain(self) -> None:
        torch.stack(self.losses()).sum().backward()

    def torchjd(self) -> None:
        mtl_backward(self.losses(), features=self.features[:1], parallel_chunk_size=1)
        jac_to_grad(self.parameters.shared, UPGrad())

    def libmtl(self) -> None:
        shared, losses = self.parameters.shared, self.losses()
        rows = torch.zeros(self.case.tasks, sum(p.numel() for p in shared))
        for task, loss in enumerate(losses):
            loss.backward(retain_graph=task < len(losses) - 1)
            rows[task] = torch.cat([p.grad.flatten() for p in shared])
            for parameter in shared:
                parameter.grad = None
        _ = rows @ rows.T
        vector = self.weights.to(rows) @ rows
        for parameter, part in zip(shared, vector.split([p.numel() for p in shared]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def task_by_task(self, found: Jacobian | LayerGramians) -> None:
        losses = self.losses()
        if isinstance(found, LayerGramians):
            found.begin(losses)
        for task, loss in enumerate(losses):
            own, keep = self.parameters.own[task], task < len(losses) - 1
            gradients = torch.autograd.grad(loss, [*found.inputs, *own], retain_graph=keep, allow_unused=True)
            found.take(task, gradients[: len(found.inputs)])
            for parameter, gradient in zip(own, gradients[len(found.inputs) :], strict=True):
                parameter.grad = gradient
            del gradients, gradient  # they are as large as the network
        found.gramian()
        found.combine(self.weights)
        found.clear()

    def one_pass(self, found: RowGramians) -> None:
        losses, own = self.losses(), self.parameters.all_own()
        rows, tasks = list(self.sharing.rows_in_trunk(self.rows).values()), tuple(range(len(losses)))
        assert found.begin(losses, rows, len(self.inputs), tasks)
        gradients = torch.autograd.grad(torch.stack(losses).sum(), [*found.inputs, *own])
        for parameter, gradient in zip(own, gradients[len(found.inputs) :], strict=True):
            parameter.grad = gradient
        found.take(gradients[: len(found.inputs)])
        found.gramian()
        found.combine(self.weights)
        found.clear()

    def engine(self, update: Update) -> None:
        """As `MultiTaskModule.backward` calls it."""
        losses = self.losses()
        step = Step(self.number, 0, torch.arange(len(losses)))
        rows = dict(enumerate(self.sharing.rows_in_trunk(self.rows).values()))
        micro_batch = MicroBatch(step, 1, torch.stack(losses).detach(), rows, len(self.inputs))
        update.backward(dict(enumerate(losses)), torch.ones(()), micro_batch, self.parameters)
        self.number += 1

    def look_again(self, update: Update) -> None:
        with torch.no_grad():
            update.look_again(torch.stack(self.losses()))

    def step(self, method: str) -> Callable[[], None]:
        """One step of a method, SGD's included."""
        shared, tasks = self.parameters.shared, self.case.tasks
        fixed = {
            "plain sum": self.plain,
            "TorchJD": self.torchjd,
            "LibMTL's procedure": self.libmtl,
        }
        again: Callable[[], None] = lambda: None  # noqa: E731
        if method in fixed:
            backward = fixed[method]
        elif "Jacobian" in method:
            backward = partial(self.task_by_task, Jacobian(shared, tasks))
        elif method == "layer Gramians":
            backward = partial(self.task_by_task, LayerGramians(shared, tasks))
        elif method == "one pass":
            backward = partial(self.one_pass, RowGramians(shared, tasks))
        else:
            name, _, level = method.partition(", ")
            balancer = UPGrad() if name == "UPGrad" else getattr(balancing, name)()
            config = GradientConfig(level=level or "parameters")
            update = Update(balancer, config, tasks, self.passed_on)
            if trained := list(update.parameters()):
                self.optimizer.add_param_group({"params": trained})
            backward = partial(self.engine, update)
            again = partial(self.look_again, update) if update.scalarizer.looks_again else again

        def step() -> None:
            self.optimizer.zero_grad()
            backward()
            self.optimizer.step()
            again()

        return step


def set_norms(module: nn.Module, kind: str) -> None:
    """Put group normalisation in the place of batch normalisation, or hold its statistics."""
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            set_norms(child, kind)
        elif kind == "frozen":
            child.eval()
        elif kind == "group":  # timm's norm holds its activation
            activation = getattr(child, "act", nn.Identity())
            setattr(module, name, nn.Sequential(nn.GroupNorm(8, child.num_features), activation))


def build(case: Case, method: str) -> Callable[[], None]:
    return Bench(case, by_task=case.own_rows and method != "plain sum").step(method)


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak(case: str, method: str) -> float:
    """Growth in MiB of a process that takes three steps."""
    command = [sys.executable, __file__, "--peak", case, method]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def grown(case: Case, method: str) -> float:
    before = highest()
    step = build(case, method)
    for _ in range(3):
        step()
    return highest() - before


def highest() -> float:
    """Peak of this process so far, in MiB; `getrusage` would tell its parent's where that is higher."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(name: str, rounds: int) -> None:
    case = CASES[name]
    kind = f"{case.rows} rows each, {case.norm} normalisation" if case.own_rows else f"batch of {case.rows}"
    print(f"\n{case.network}, {case.size}×{case.size}, {case.tasks} tasks, {kind}\n")
    print("| step | ms | over the plain sum | quartiles | peak, MiB |\n|---|---|---|---|---|")
    plain = build(case, "plain sum")
    steps = {method: build(case, method) for method in case.methods}
    for step in (plain, *steps.values()):
        step()
    pairs: dict[str, list[tuple[float, float]]] = {method: [] for method in steps}
    for number in range(rounds):
        for method, step in steps.items():
            order = (plain, step) if number % 2 else (step, plain)
            times = {each: seconds(each) for each in order}
            pairs[method].append((times[plain], times[step]))
    base = statistics.median(theirs for each in pairs.values() for theirs, _ in each)
    print(f"| plain sum | {base * 1e3:.1f} | 1 | | {peak(name, 'plain sum'):.0f} |")
    for method, times in pairs.items():
        ratios = [ours / theirs for theirs, ours in times]
        low, middle, high = statistics.quantiles(ratios, n=4)
        ours = statistics.median(ours for _, ours in times) * 1e3
        figures = f"{ours:.1f} | {middle:.2f} | {low:.2f}–{high:.2f} | {peak(name, method):.0f}"
        print(f"| {method} | {figures} |", flush=True)


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        name, method = arguments.peak
        print(grown(CASES[name], method))
        return
    for name in arguments.cases:
        measure(name, arguments.rounds)


if __name__ == "__main__":
    main()
