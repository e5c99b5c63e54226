"""Dense metrics of random batches; as a script, a rank's share of them, gathered over two."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from app.measuring.stage import StageMetrics
from app.tasks import Task, TaskConfig, task_of
from datamodules.targets import Dense, DenseCategorical, DenseContinuous, UnitVectors
from models.by_name import ModulesByName

TARGETS: dict[str, Dense] = {
    "segments": DenseCategorical(tuple("abcdef")),  # the last one is neither predicted nor there
    "depth": DenseContinuous("m"),
    "normals": UnitVectors(),
}
SIZES = (3, 1, 4, 2)
HEIGHT, WIDTH = 7, 9


def batch(number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and labels, related to each other, classes unequally often, a share of the pixels missing."""
    draw = torch.Generator().manual_seed(number)
    size = (SIZES[number], HEIGHT, WIDTH)
    segments = (5 * torch.rand(size, generator=draw) ** 2).long()
    depth = 1 + 4 * torch.rand(size, generator=draw)
    depth[0, 0, :2] = 0.0  # which have no relative error
    normals = torch.nn.functional.normalize(torch.randn(len(depth), 3, HEIGHT, WIDTH, generator=draw), dim=1)
    labels = {"segments": segments, "depth": depth, "normals": normals}
    hits = torch.nn.functional.one_hot(segments, 6).movedim(-1, 1)
    outputs = {
        "segments": 2 * hits + torch.randn(hits.shape, generator=draw) - 9 * (torch.arange(6) == 5)[:, None, None],
        "depth": (depth + 0.5 * torch.randn(size, generator=draw))[:, None],
        "normals": 3 * normals + torch.randn(normals.shape, generator=draw),
    }
    for task, maps in labels.items():
        holes = torch.rand(size, generator=draw) < 0.1 + 0.25 * number
        maps.copy_(torch.where(holes if maps.ndim == 3 else holes[:, None], TARGETS[task].missing, maps))
    return outputs, labels


def new() -> tuple[ModulesByName[Task], StageMetrics]:
    tasks = ModulesByName[Task]({name: task_of(name, target, TaskConfig()) for name, target in TARGETS.items()})
    return tasks, StageMetrics("val", tasks)


def feed(metrics: StageMetrics, tasks: ModulesByName[Task], numbers: list[int]) -> None:
    """Show the metrics some batches, as the module does; the second one has no normals."""
    for number in numbers:
        outputs, labels = batch(number)
        present = [name for name in TARGETS if (name, number) != ("normals", 1)]
        sums = [tasks[n].losses(outputs[n], labels[n]).sum() if n in present else torch.zeros(()) for n in TARGETS]
        rows = torch.tensor([SIZES[number] * (name in present) for name in TARGETS])
        shown = {name: tasks[name].measured(outputs[name], labels[name]) for name in present}
        metrics.update(torch.stack(sums), rows, shown)


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    tasks, metrics = new()
    feed(metrics, tasks, [[0, 2, 3], [1]][rank])  # the second rank has no normals at all
    torch.save(metrics.compute(), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
