"""Published benchmarks in small: end to end on one process and on two, and again from the same seed."""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import layouts
import pytest
import torch
import yaml
from conftest import ROOT, Train, steps

BENCHMARKS = ROOT / "configs/benchmarks"


def group(folder: Path) -> dict:
    """Sources of three benchmarks in one run: 23 tasks, 128 rows for training."""
    layouts.cifar100(folder / "cifar", rows=2)
    layouts.celeba(folder / "celeba")
    layouts.office(folder / "office", "amazon", "images/")
    cifar = {"path": str(folder / "cifar"), "val_share": 0.5}
    faces = {"path": str(folder / "celeba"), "attributes": ["Male", "Young"]}
    amazon = {"path": str(folder / "office/images"), "lists": str(folder / "office/lists/amazon")}
    resize = [{"class_path": "Resize", "init_args": {"size": [16, 16]}}]
    return {
        "name": "group",
        "monitor": "accuracy/val/mean",
        "data": {
            "sources": {
                "cifar": {"class_path": "CIFAR100Superclasses", "init_args": cifar},
                "faces": {"class_path": "CelebA", "init_args": faces},
                "amazon": {"class_path": "ImageLists", "init_args": amazon},
            },
            "transform": {"class_path": "TorchvisionTransforms", "init_args": {"train": resize, "eval": resize}},
        },
        "model": {
            "backbone": {"class_path": "LeNet", "init_args": {"widths": [4], "features": 8}},
            "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.5}},
        },
        "trainer": {"accelerator": "cpu", "precision": "64-true", "max_epochs": 1, "enable_progress_bar": False},
    }


def test_one_epoch_of_two_processes_is_that_of_one(train: Train, train_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "group.yaml").write_text(yaml.safe_dump(group(tmp_path)))
    seen, ends, figures = [], [], []
    for ranks, launch in ((1, train_here), (2, train)):
        spied = tmp_path / f"spied-{ranks}"
        spied.mkdir()
        launch("fit", "--config", "group.yaml", "--trainer.devices", str(ranks), "--trainer.strategy",
               "ddp" if ranks > 1 else "auto", "--data.sampling", "Shared", "--data.sampling.batch_size",
               str(32 // ranks), "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true",
               "--trainer.callbacks.folder", str(spied))  # fmt: skip
        seen.append(sorted(row for rank in range(ranks) for line in steps(spied, rank) for row in line["rows"]))
        ends.append([torch.load(spied / f"parameters-{rank}.pt") for rank in range(ranks)])
        figures.append(json.loads((tmp_path / f"runs/group/version_{ranks - 1}/results.json").read_text()))
    assert seen == [list(range(128))] * 2
    ((alone,), (first, second)) = ends
    assert (alone[0] - alone[-1]).abs().max() > 1e-3
    assert torch.equal(first, second)
    assert (first[-1] - alone[-1]).abs().max() <= 1e-9
    one, two = figures
    assert set(one["tasks"]) == {f"large_man-made_{number:02}" for number in range(20)} | {"Male", "Young", "amazon"}
    for task, metrics in one["tasks"].items():
        assert all(isfinite(value) for value in metrics.values())
        assert two["tasks"][task] == pytest.approx(metrics)
    each = [metrics["accuracy"] for metrics in one["tasks"].values()]
    assert one["mean"]["accuracy"] == pytest.approx(sum(each) / 23)


def test_protocol_of_multi_mnist_comes_again_from_its_seed(train_here: Callable, tmp_path: Path) -> None:
    few = str(layouts.few_fashion(tmp_path / "fashion", train=1200, test=100))
    states, results = [], []
    for version, seed in enumerate(("0", "0", "1")):
        train_here("fit", "--config", str(BENCHMARKS / "multi_fashion_kurin.yaml"), "--seed_everything", seed,
                   "--data.sources.pairs.init_args.left", few, "--trainer.max_epochs", "1", "--trainer.accelerator",
                   "cpu", "--trainer.enable_progress_bar", "false")  # fmt: skip
        folder = tmp_path / f"runs/multi_fashion_kurin/version_{version}"
        whole = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        states.append(
            {name: value for name, value in whole.items() if name.startswith(("network.sharing.", "network.heads."))}
        )
        results.append(json.loads((folder / "results.json").read_text()))
    assert len(states[0]) == 14
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert results[0] == results[1]
    assert results[0]["tasks"] != results[2]["tasks"]


def test_multi_fashion_follows_the_protocol_of_multi_mnist() -> None:
    paths = (BENCHMARKS / f"{name}.yaml" for name in ("multi_mnist", "multi_fashion_kurin"))
    mnist, fashion = (yaml.safe_load(path.read_text()) for path in paths)
    for config in (mnist, fashion):
        del config["name"], config["data"]["sources"]
    assert mnist == fashion
