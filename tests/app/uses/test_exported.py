"""Exported networks give what the network gives, in batches of any size, without this program."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import yaml
from conftest import ROOT
from rows import TRAINER, configuration
from safetensors.torch import load_file

from app.exports.exporting import Exported
from app.runs import load_run

TIMM = {
    "resnet10t": {"class_path": "TimmBackbone", "init_args": {"name": "resnet10t"}},
    "vit_tiny": {"class_path": "TimmBackbone", "init_args": {"name": "vit_tiny_patch16_224"}},
}
SHORT = {"name": "short", "trainer": {**TRAINER, "max_epochs": 1, "limit_train_batches": 2, "limit_test_batches": 0}}


def four_kinds(backbone: dict[str, Any], **model: Any) -> dict[str, Any]:
    """A number, three kinds of classes, of images in files."""
    content = yaml.safe_load(configuration("images").read_text())
    content["model"] = {"backbone": backbone, **model}
    content["data"]["transform"] = {
        "class_path": "TimmTransforms",
        "init_args": {"input_size": 32, "model": "resnet10t"},
    }
    return {**content, **SHORT}


def quickstart() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    content["data"]["sources"]["digits"]["init_args"] = {"train_pairs": 200, "val_pairs": 40, "test_pairs": 40}
    content["model"].pop("lr_scheduler")
    return {**content, **SHORT}


def scene() -> dict[str, Any]:
    sources = {"scene": {"class_path": "scene.Scene", "init_args": {"rows": 16}}}
    sampling = {"class_path": "Shared", "init_args": {"batch_size": 8}}
    head = {"class_path": "UpsamplingHead", "init_args": {"width": 8}}
    model = {"backbone": TIMM["resnet10t"], "head": head}
    return {"data": {"sources": sources, "sampling": sampling}, "model": model, **SHORT}


NETWORKS: dict[str, Callable[[], dict[str, Any]]] = {
    "quickstart": quickstart,
    "resnet10t": lambda: four_kinds(TIMM["resnet10t"]),
    "vit_tiny": lambda: four_kinds(TIMM["vit_tiny"]),
    "scene": scene,
    "independent": lambda: four_kinds(
        {"class_path": "LeNet", "init_args": {"widths": [4], "kernel_size": 3, "features": 8}},
        sharing={"class_path": "IndependentNetworks"},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_files_give_what_the_network_gives(train_here: Callable, name: str) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(NETWORKS[name]()))
    train_here("fit", "--config", "config.yaml")
    for kind in ("onnx", "torch"):
        train_here(
            "export",
            "--run",
            "runs/short",
            "--format",
            kind,
            "--output",
            f"net{'.onnx' if kind == 'onnx' else '.pt2'}",
            "--overwrite",
            "true",
        )
    run = load_run("runs/short")
    about = json.loads(Path("net.onnx.json").read_text())
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["polyhead"]) == about
    program = torch.export.load("net.pt2").module()
    ((key, given),) = about["inputs"].items()
    own = Exported(run.network, [key], modal=False)
    draw = torch.Generator().manual_seed(0)
    for size in (1, 7, 64):
        x = torch.rand(size, *given["shape"][1:], generator=draw)
        expected = own(x)
        for found in (session.run(None, {key: x.numpy()}), program(x)):
            for task, one, other in zip(about["outputs"], expected, found, strict=True):
                scale = getattr(run.contract.targets[task], "std", 1.0)
                assert one.shape == other.shape
                assert np.abs(np.asarray(other) - one.numpy()).max() / scale < 1e-4, (task, size)
    for task, target in run.contract.targets.items():  # labels and units by the JSON alone
        assert about["outputs"][task]["kind"] == type(target).__name__
        assert about["outputs"][task].get("classes") == (
            None if target.class_names is None else list(target.class_names)
        )
        assert about["outputs"][task].get("unit") == (getattr(target, "unit", None) or None)


def test_the_trunk_is_one_of_timms(train_here: Callable) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(four_kinds(TIMM["resnet10t"])))
    train_here("fit", "--config", "config.yaml")
    train_here("export", "--run", "runs/short", "--format", "timm", "--output", "trunk.safetensors")
    net = timm.create_model("resnet10t", num_classes=0, checkpoint_path="trunk.safetensors").eval()
    run = load_run("runs/short")
    images = [f"img/{row}.png" for row in range(6)]
    x = run.read(run.rows(images), torch.arange(6))
    with torch.no_grad():
        assert torch.allclose(net(x), run.features(images), atol=1e-6)


def test_of_networks_of_their_own_each_trunk_is_a_file(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    Path("config.yaml").write_text(
        yaml.safe_dump(four_kinds(TIMM["resnet10t"], sharing={"class_path": "IndependentNetworks"}))
    )
    train_here("fit", "--config", "config.yaml")
    export = ["export", "--run", "runs/short", "--format", "timm", "--output", "net.safetensors"]
    train_here(*export)
    run = load_run("runs/short")
    for task, network in run.network.sharing.networks.items():
        written = load_file(f"net-{task}.safetensors")
        assert all(written[name].equal(x) for name, x in network.net.state_dict().items())
    with pytest.raises(SystemExit, match="2"):
        train_here(*export)
    assert "output: must not be there yet" in capfd.readouterr().err
