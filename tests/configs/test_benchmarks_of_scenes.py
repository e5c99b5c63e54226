"""NYUv2 and Cityscapes, from files in their true layout to figures, on one process and on two."""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import mtan_files
import pytest
import yaml
from conftest import Train

TRANSFORM = {
    "class_path": "TorchvisionTransforms",
    "init_args": {"train": ["RandomScaledCrop", "RandomHorizontalFlip"], "eval": []},
}
NYUV2 = {"class_path": "NYUv2", "init_args": {"path": "nyuv2", "val_fraction": 0.2}}
CITYSCAPES = {"class_path": "Cityscapes", "init_args": {"path": "cityscapes", "val_fraction": 0.2}}
SEGMENTATION = {"miou", "accuracy"}
DEPTH = {"abs_error", "rel_error"}
NORMAL = {"angle_mean", "angle_median", "within_11_25", "within_22_5", "within_30"}


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    mtan_files.write_nyuv2(tmp_path / "nyuv2", train=10, val=3, height=32, width=48)
    mtan_files.write_cityscapes(tmp_path / "cityscapes", train=10, val=4, height=32, width=48)


def figures(fit: Callable, folder: Path, name: str, batch_size: int, sources: dict, *options: str) -> dict[str, dict]:
    """Task → metric → figure of the test, after an epoch."""
    sampling = {"class_path": "Shared", "init_args": {"batch_size": batch_size}}
    content = {
        "name": name,
        "data": {"sources": sources, "transform": TRANSFORM, "sampling": sampling},
        "model": {
            "backbone": {"class_path": "TimmBackbone", "init_args": {"name": "test_convnext"}},
            "head": {"class_path": "DeepLabHead", "init_args": {"width": 8, "rates": [1, 2]}},
            "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.05}},
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "precision": "64-true"},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    fit("fit", "--config", str(folder / f"{name}.yaml"), *options)
    (path,) = (folder / "runs" / name).glob("**/results.json")
    tasks: dict[str, dict] = json.loads(path.read_text())["tasks"]
    return tasks


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (NYUV2, {"segmentation": SEGMENTATION, "depth": DEPTH, "normal": NORMAL}),
        (CITYSCAPES, {"segmentation": SEGMENTATION, "depth": DEPTH}),
    ],
    ids=["nyuv2", "cityscapes"],
)
def test_benchmark_trains_and_is_measured_as_published(
    train_here: Callable, tmp_path: Path, source: dict, expected: dict[str, set[str]]
) -> None:
    tasks = figures(train_here, tmp_path, "alone", 4, {"scenes": source})
    assert {task: set(found) - {"loss"} for task, found in tasks.items()} == expected
    assert all(isfinite(figure) for found in tasks.values() for figure in found.values())


@pytest.mark.slow
def test_two_ranks_reach_what_one_does(train: Train, train_here: Callable, tmp_path: Path) -> None:
    """Both in one run, a network without batch statistics: the same rows and augmentations, the same figures."""
    rooms = {**NYUV2, "init_args": {**NYUV2["init_args"], "tasks": ["depth", "normal"]}}
    streets = {**CITYSCAPES, "init_args": {**CITYSCAPES["init_args"], "tasks": ["segmentation"]}}
    sources = {"rooms": rooms, "streets": streets}
    one = figures(train_here, tmp_path, "one", 4, sources)
    two = figures(train, tmp_path, "two", 2, sources, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert two.keys() == one.keys() == {"depth", "normal", "segmentation"}
    for task, found in one.items():
        assert two[task] == pytest.approx(found, rel=1e-5)
