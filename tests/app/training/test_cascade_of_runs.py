"""Runs whose heads read other tasks' predictions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train
from torch import Tensor

CASCADE = ["--model.tasks.sum.reads", "[left, right]", "--model.tasks.parity.reads", "[sum]"]
UNDETACHED = ["--model.tasks.sum.detached", "false", "--model.tasks.parity.detached", "false"]
EXACT = ["fit", "--config", str(SMALL), "--data.sources", "{partial: {class_path: partial.PartialDigits}}",
         "--trainer.precision", "64-true", "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1",
         "--model.backbone.init_args.dropout", "0", "--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0",
         "--model.balancer", "UPGrad", *CASCADE]  # fmt: skip


def weights(name: str) -> dict[str, Tensor]:
    state = torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {key: x for key, x in state.items() if key.startswith(("network.sharing.", "network.heads."))}


@pytest.mark.parametrize("options", [[], pytest.param(UNDETACHED, marks=pytest.mark.slow)], ids=["detached", "shared"])
def test_ranks_and_micro_batches_equal_one_large_batch(train: Train, train_here: Callable, options: list[str]) -> None:
    train_here(*EXACT, *options, "--name", "one", "--data.sampling.batch_size", "24")
    several = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accumulate_grad_batches", "3"]
    train(*EXACT, *options, *several, "--name", "two", "--data.sampling.batch_size", "4")
    one, two = weights("one"), weights("two")
    assert any(".labels." in name for name in one)
    assert max(float((x - two[name]).abs().max()) for name, x in one.items()) <= 1e-9


def test_run_is_predicted_with_and_exported(train_here: Callable, tmp_path: Path) -> None:
    train_here(
        "fit", "--config", str(SMALL), *CASCADE, "--trainer.max_epochs", "1", "--trainer.precision", "bf16-mixed"
    )
    train_here("predict", "--run", "runs/small")
    assert (tmp_path / "runs/small/version_0/predictions.csv").is_file()
    for format, name in (("torch", "net.pt2"), ("onnx", "net.onnx")):
        train_here("export", "--run", "runs/small", "--format", format, "--output", name)  # which compares it
        assert (tmp_path / name).is_file()
