"""Scenes in the files of MTAN: a floor and a wall behind it, seen through a pinhole, of which every label is known."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH, FOCAL = 24, 32, 24.0
FLOOR, WALL = 4, 11  # of NYUv2's classes


def scene(turn: float, drop: float = 1.5, height: int = HEIGHT, width: int = WIDTH) -> dict[str, NDArray]:
    """A wall that is turned by `turn` radians, and a floor `drop` metres below the camera, none of it missing.

    Returns:
        image [H, W, 3], label [H, W], depth [H, W, 1] and normal [H, W, 3]; x to the right, y down, z ahead.
    """
    y, x = np.mgrid[:height, :width]
    rays = np.stack([(x - (width - 1) / 2) / FOCAL, (y - (height - 1) / 2) / FOCAL, np.ones_like(x)], axis=-1)
    normals = np.array([[0, -1, 0], [np.sin(turn), 0, -np.cos(turn)]])
    facing = rays @ normals.T  # of a plane with the normal n at the distance d, the depth along a ray r is -d / n·r
    with np.errstate(divide="ignore"):
        depths = np.where(facing < 0, -np.array([drop, 4.0]) / facing, np.inf)
    nearest = depths.argmin(axis=-1)
    depth = depths.min(axis=-1, keepdims=True)
    image = np.where(nearest[..., None] == 0, [0.6, 0.4, 0.2], [0.2, 0.5, 0.8]) / (1 + depth / 10)
    return {"image": image, "label": np.where(nearest == 0, FLOOR, WALL), "depth": depth, "normal": normals[nearest]}


def drawn_scene(rng: np.random.Generator, **size: int) -> dict[str, NDArray]:
    """A random one, with noise, and without labels at an edge of every map."""
    arrays = scene(rng.uniform(-0.5, 0.5), rng.uniform(1, 2), **size)
    arrays["image"] = (arrays["image"] + rng.uniform(-0.05, 0.05, arrays["image"].shape)).clip(0, 1)
    arrays["label"][:2], arrays["depth"][-2:], arrays["normal"][:, :2] = -1, 0, 0
    return arrays


def write_nyuv2(folder: Path, train: int = 10, val: int = 4, **size: int) -> Path:
    """Files as NYUv2's are."""
    rng = np.random.default_rng(0)
    for part, rows in {"train": train, "val": val}.items():
        for row in range(rows):
            _write(folder / part, row, drawn_scene(rng, **size))
    return folder


def write_cityscapes(folder: Path, train: int = 10, val: int = 4, **size: int) -> Path:
    """Files as those of Cityscapes are: 2, 7 and 19 classes, inverse depth, no normals."""
    rng = np.random.default_rng(0)
    for part, rows in {"train": train, "val": val}.items():
        for row in range(rows):
            given = drawn_scene(rng, **size)
            label, depth = given["label"], given["depth"]
            labels = {f"label_{n}": np.where(label < 0, -1, np.where(label == FLOOR, 0, n - 1)) for n in (2, 7, 19)}
            inverse = np.divide(0.2, depth, out=np.zeros_like(depth), where=depth > 0)
            _write(folder / part, row, {"image": given["image"], **labels, "depth": inverse})
    return folder


def _write(folder: Path, row: int, arrays: dict[str, NDArray]) -> None:
    for name, array in arrays.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / f"{row}.npy", array.astype(np.int64 if name.startswith("label") else np.float32))
