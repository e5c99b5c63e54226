"""A task without a row in a step takes no part in it."""

from collections.abc import Callable
from pathlib import Path

import torch
from conftest import SMALL, scalars, steps


def test_absent_task_leaves_its_head_and_its_curve_untouched(train_here: Callable, tmp_path: Path) -> None:
    cli = train_here(
        "fit", "--config", str(SMALL), "--data.sources", "{partial: {class_path: partial.PartialDigits}}",
        "--data.sampling.batch_size", "8", "--trainer.max_epochs", "2", "--model.optimizer.weight_decay", "0.5",
        "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true",
        "--trainer.callbacks.folder", str(tmp_path),
    )  # fmt: skip
    kept, lines = torch.load(tmp_path / "parameters-0.pt"), steps(tmp_path)
    absent = [step for step in range(1, len(lines)) if not lines[step]["counts"]["parity"]]
    assert 0 < len(absent) < len(lines) - 1
    start = 0
    for name, parameter in cli.model.named_parameters():
        own = kept[:, start : (start := start + parameter.numel())]
        for step in range(1, len(lines)):
            moved = not torch.equal(own[step], own[step - 1])
            assert moved == (step not in absent or "parity" not in name), (name, step)
    logged = {step for step, _ in scalars(tmp_path / "runs/small/version_0")["loss/step/parity"]}
    assert logged == {step for step in range(len(lines)) if lines[step]["counts"]["parity"]}
