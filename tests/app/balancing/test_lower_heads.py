"""Heads that read a lower stage, under methods that look at what the tasks share."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL

LOWER = [
    "fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--model.tasks.parity.head", "LinearHead",
    "--model.tasks.parity.head.stage", "0", "--model.balancer",
]  # fmt: skip


def test_gradnorm_needs_a_layer_that_all_tasks_reach(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train_here(*LOWER, "GradNorm")
    line = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"error: model\.balancer: .*, which task number 3 .* does not reach", line), line


def test_gradient_methods_take_zeros_for_what_a_task_does_not_reach(train_here: Callable) -> None:
    train_here(*LOWER, "UPGrad")
    weights = torch.load(Path("runs/small/version_0/checkpoints/last.ckpt"), weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for name, value in weights.items() if name.startswith("network.sharing."))
