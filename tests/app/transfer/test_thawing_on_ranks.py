"""Layers that are frozen and thawed on several processes: all equal bit for bit, and as on one process."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, slow_but

EXACT = [
    "fit", "--config", str(SMALL), "--data.sources", "{partial: {class_path: partial.PartialDigits}}",
    "--trainer.precision", "64-true", "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1",
    "--model.optimizer.momentum", "0.9", "--model.backbone.init_args.dropout", "0", "--trainer.gradient_clip_val", "1",
    "--schedule", "{preset: gradual_unfreeze, phases: 4}", "--model.layers.decay", "0.8",
    "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true", "--trainer.callbacks.folder",
]  # fmt: skip


@pytest.mark.parametrize("method", slow_but(["null", "UPGrad"], "UPGrad"))
def test_ranks_stay_together_and_with_one_process(
    train: Train, train_here: Callable, tmp_path: Path, method: str
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    options = ["--model.balancer", method, "--data.sampling.batch_size"]
    train_here(*EXACT, "one", *options, "24")
    two = train(*EXACT, "two", *options, "12", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert all(f"phase {number} of 4" in two.stderr for number in range(1, 5))
    first, second = (torch.load(f"two/parameters-{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)  # after every step
    alone = torch.load("one/parameters-0.pt")
    assert (alone[0] != alone[-1]).float().mean() > 0.5  # ReLUs of the small network are dead
    assert (alone - first).abs().max() <= 1e-9
