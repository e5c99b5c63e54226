"""Runs of tasks with a label a pixel: gradients of every task, several ranks, predictions, and what is learned."""

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import Train, steps
from PIL import Image
from scene import Scene
from torch import Tensor

from app.balancing import MicroBatch, Step
from app.balancing.engine.layer_gramians import LayerGramians
from app.balancing.engine.row_gramians import RowGramians
from app.balancing.engine.task_gradients import TaskGradients
from app.training.module import MultiTaskModule
from datamodules.batch import MultiTaskBatch
from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from models.backbones import LeNet
from models.heads import UpsamplingHead

LENET = {"class_path": "LeNet", "init_args": {"widths": [6, 8], "kernel_size": 3, "padding": 1}}


def config(tmp_path: Path, backbone: dict, width: int, scene: dict, **trainer) -> str:
    """A file that says how the scene is learned."""
    file = tmp_path / "scene.yaml"
    content = {
        "name": "scene",
        "data": {
            "sources": {"scene": {"class_path": "scene.Scene", "init_args": scene}},
            "sampling": {"class_path": "Shared", "init_args": {"batch_size": 16}},
        },
        "model": {
            "backbone": backbone,
            "head": {"class_path": "UpsamplingHead", "init_args": {"width": width}},
            "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.003}},
            "lr_scheduler": "WarmupCosine",
        },
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, **trainer},
    }
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("apart", [False, True], ids=["rows of several tasks", "rows of one task"])
def test_gradients_of_every_task_are_the_jacobian(apart: bool) -> None:
    torch.manual_seed(0)
    data = MultiTaskDataModule({"scene": Scene(rows=12, unlabelled=0.3)}, Shared(12))
    lenet, head = partial(LeNet, widths=(4, 6), kernel_size=3, padding=1), partial(UpsamplingHead, width=8)
    module = MultiTaskModule(data.targets, data.input_shape, lenet, head=head)
    batch = next(iter(data.train_dataloader()))
    if apart:
        batch = one_task_a_row(batch)
    sums = module.network.losses(batch, module(batch.inputs, batch.rows))
    losses = dict(enumerate(module._losses(batch, sums).values()))
    shared = list(module.network.sharing.backbone.layers[:2].parameters())  # no task reads the embedding
    jacobian = torch.stack([flat(torch.autograd.grad(loss, shared, retain_graph=True)) for loss in losses.values()])
    found = TaskGradients()
    parameters = module._trained()
    rows = dict(enumerate(batch.rows.values()))
    found.take(losses, MicroBatch(Step(0, 0, torch.arange(3)), 1, None, rows, len(batch.ids)), parameters)
    assert isinstance(found._taken, RowGramians if apart else LayerGramians)
    torch.testing.assert_close(found.gramian(), jacobian @ jacobian.T, rtol=1e-10, atol=1e-14)
    weights = torch.tensor([0.5, -2.0, 3.0])
    found.combine(weights)
    torch.testing.assert_close(flat([p.grad for p in shared]), weights @ jacobian, rtol=1e-10, atol=1e-14)
    assert all(p.grad is not None and p.grad.any() for own in parameters.own for p in own)


def one_task_a_row(batch: MultiTaskBatch) -> MultiTaskBatch:
    """Each row's label of one task alone."""
    for number, task in enumerate(batch.rows):
        mine = batch.rows[task] % 3 == number
        batch.rows[task], batch.targets[task] = batch.rows[task][mine], batch.targets[task][mine]
        batch.counts[task] = int(mine.sum())
    return batch


def flat(tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_two_ranks_end_where_one_process_does(train: Train, train_here: Callable, tmp_path: Path) -> None:
    """With pixels and rows missing, under a gradient method: one process takes layers' Gramians, ranks a Jacobian."""
    scene = config(tmp_path, LENET, 8, {"rows": 24, "unlabelled": 0.4}, max_epochs=2, limit_val_batches=0)
    ends = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        (train if ranks > 1 else train_here)(
            "fit", "--config", scene, "--model.balancer", "UPGrad", "--trainer.precision", "64-true",
            "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--data.sampling.batch_size", str(12 // ranks),
            "--trainer.devices", str(ranks), "--trainer.strategy", "ddp" if ranks > 1 else "auto",
            "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true",
            "--trainer.callbacks.folder", str(folder),
        )  # fmt: skip
        ends[ranks] = [torch.load(folder / f"parameters-{rank}.pt") for rank in range(ranks)]
    (whole,), (first, second) = ends.values()
    assert (whole[0] - whole[-1]).abs().max() > 1e-3
    assert torch.equal(first, second)
    assert (first - whole).abs().max() <= 1e-9
    counts = [line["counts"] for line in steps(tmp_path / "1")]
    assert all(sum(count.values()) < 3 * 12 for count in counts)


def test_predictions_are_files_beside_the_table(train_here: Callable, tmp_path: Path) -> None:
    scene = config(tmp_path, LENET, 8, {"rows": 16}, max_epochs=1)
    cli = train_here("fit", "--config", scene)
    train_here("predict", "--config", scene, "--data.eval_batch_size", "10")
    folder = tmp_path / "runs/scene/version_0"
    with (folder / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 32
    row = {task: table[13][task] for task in ("segments", "depth", "normals")}
    assert row["depth"] == "predictions/depth/13.npy"
    inputs = cli.datamodule.datasets["test"].splits[0].inputs[13:14]
    cli.model.load_state_dict(torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"])
    with torch.no_grad():
        outputs = cli.model.eval()(inputs, dict.fromkeys(row, torch.tensor([0])))
    assert np.array_equal(np.asarray(Image.open(folder / row["segments"])), outputs["segments"][0].argmax(0))
    assert np.allclose(np.load(folder / row["depth"]), outputs["depth"][0, 0], atol=1e-5)
    normals = np.load(folder / row["normals"])
    assert normals.shape == (3, 32, 48)
    assert np.allclose(normals, outputs["normals"][0] / outputs["normals"][0].norm(dim=0), atol=1e-4)
    for task, number in [("segments", "png"), ("depth", "npy"), ("normals", "npy")]:
        assert len(list((folder / "predictions" / task).glob(f"*.{number}"))) == 32


@pytest.mark.slow
def test_a_planted_scene_is_learned(train_here: Callable, tmp_path: Path) -> None:
    resnet = {"class_path": "TimmBackbone", "init_args": {"name": "resnet10t"}}
    train_here("fit", "--config", config(tmp_path, resnet, 32, {"rows": 256}, max_epochs=10))
    tasks = json.loads((tmp_path / "runs/scene/version_0/results.json").read_text())["tasks"]
    assert tasks["segments"]["miou"] >= 0.9
    assert tasks["depth"]["abs_error"] <= 0.4
    assert tasks["normals"]["angle_mean"] <= 10
