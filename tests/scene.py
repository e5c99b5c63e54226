"""A planted scene: boxes and balls before a wall, of which segments, depths and normals are known for every pixel."""

import torch
from torch import Tensor

from datamodules.sources import Source, TensorSplit
from datamodules.targets import DenseCategorical, DenseContinuous, UnitVectors

HEIGHT, WIDTH = 32, 48
WALL, FAR = 0, 4.0
LIGHTS = torch.tensor([[0.5, 0.0, 0.87], [-0.25, 0.43, 0.87], [-0.25, -0.43, 0.87]])  # one a colour


class Scene(Source):
    """Surfaces under three coloured lights, darker with distance; a box is flat and tilted, a ball round.

    Args:
        rows: Rows of the training split; validation and test have 32 each.
        holes: Share of the pixels without a label, a block of each task's map.
        unlabelled: Share of the rows that do not carry a task, drawn for each.
    """

    def __init__(self, rows: int = 256, holes: float = 0.1, unlabelled: float = 0.0) -> None:
        self.rows, self.holes, self.unlabelled = rows, holes, unlabelled
        self.targets = {
            "segments": DenseCategorical(("wall", "box", "ball")),
            "depth": DenseContinuous("m"),
            "normals": UnitVectors(),
        }

    def split(self, name: str) -> TensorSplit:
        draw = torch.Generator().manual_seed(len(name) + 7)
        rows = self.rows if name == "train" else 32
        scenes = [scene(draw) for _ in range(rows)]
        segments, depth, normals = (torch.stack(maps) for maps in zip(*scenes, strict=True))
        light = torch.einsum("ck,nkhw->nchw", LIGHTS.to(normals), normals)
        images = light.clamp_min(0) * (2 / (1 + depth))[:, None]
        images += 0.02 * torch.randn(images.shape, generator=draw)
        labels = {"segments": segments, "depth": depth, "normals": normals}
        for task, maps in labels.items():
            for row in maps:
                row[..., *block(self.holes, draw)] = self.targets[task].missing
        labelled = {task: torch.rand(rows, generator=draw) >= self.unlabelled for task in labels}
        return TensorSplit(images, labels, labelled)


def scene(draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Segments [H, W], depth [H, W] and normals [3, H, W] of a wall with a few things before it, the nearest on top."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    segments = torch.full((HEIGHT, WIDTH), WALL)
    depth = torch.full((HEIGHT, WIDTH), FAR)
    normals = torch.zeros(3, HEIGHT, WIDTH)
    normals[2] = 1
    for distance in (3.0, 2.0, 1.0):
        kind, *place = torch.rand(5, generator=draw).tolist()
        across, down = (x - WIDTH * place[0]) / (6 + 4 * place[2]), (y - HEIGHT * place[1]) / (6 + 4 * place[3])
        if kind < 0.5:
            there = (across.abs() < 1) & (down.abs() < 1)
            tilt = torch.tensor(1.6 * kind * 2 * torch.pi)
            normal = torch.stack([0.5 * tilt.cos(), 0.5 * tilt.sin(), torch.tensor(0.75).sqrt()])[:, None, None]
        else:
            down = (y - HEIGHT * place[1]) / (6 + 4 * place[2])
            there = across**2 + down**2 < 1
            normal = torch.stack([across, down, (1 - across**2 - down**2).clamp_min(0).sqrt()])
        segments[there] = 1 if kind < 0.5 else 2
        depth[there] = distance
        normals = torch.where(there, normal, normals)
    return segments, depth, normals


def block(share: float, draw: torch.Generator) -> tuple[slice, slice]:
    """A place of about this share of a map."""
    height, width = round(HEIGHT * share**0.5), round(WIDTH * share**0.5)
    top, left = torch.rand(2, generator=draw).tolist()
    top, left = int(top * (HEIGHT - height)), int(left * (WIDTH - width))
    return slice(top, top + height), slice(left, left + width)
