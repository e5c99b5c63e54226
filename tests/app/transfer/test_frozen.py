"""What is frozen does not change, and what is thawed does: every preset, with AdamW's weight decay, in real runs."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from conftest import SMALL, slow_but

RESNET = [
    "--model.backbone", "TimmBackbone", "--model.backbone.name", "resnet10t", "--model.backbone.drop_path_rate", "0.3",
    "--model.backbone.drop_rate", "0.3", "--model.optimizer.weight_decay", "0.1", "--model.layers.coarse", "true",
    "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "0", "--trainer.limit_test_batches", "1",
]  # fmt: skip
HEADS = {"heads.left", "heads.right", "heads.sum", "heads.parity"}
TRUNK = {"backbone.conv1+bn1", *(f"backbone.layer{i}" for i in range(1, 5))}
ALL = HEADS | TRUNK
PRESETS = {
    "full": [ALL],
    "linear_probe": [HEADS],
    "freeze_then_unfreeze": [HEADS, ALL],
    "lp_ft": [HEADS, ALL],
    "{preset: surgical, block: middle}": [HEADS | {"backbone.layer1", "backbone.layer2"}],
    "{preset: gradual_unfreeze, phases: 4}": [
        HEADS,
        HEADS | {"backbone.layer3", "backbone.layer4"},
        ALL - {"backbone.conv1+bn1"},
        ALL,
    ],
    "{preset: freeze_then_unfreeze, epochs: [2], batch_norm: eval}": [HEADS, ALL],
    "{preset: linear_probe, batch_norm: stats}": [HEADS],
}


def equal(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


FAST = "linear_probe", "{preset: gradual_unfreeze, phases: 4}"


@pytest.mark.parametrize("schedule", slow_but(PRESETS, *FAST))
def test_frozen_layers_stay_and_trained_ones_change(train_here: Callable, schedule: str) -> None:
    options = ["--schedule", schedule, "--trainer.callbacks+=layer_spies.RecordLayers"]
    train_here("fit", "--config", str(SMALL), *RESNET, *options, "--trainer.callbacks.file", "layers.pt")
    steps = torch.load("layers.pt")
    assert [step["phase"] for step in steps] == sorted(step["phase"] for step in steps)
    assert {step["phase"] for step in steps} == set(range(len(PRESETS[schedule])))
    for before, after in pairwise(steps):
        trained = PRESETS[schedule][after["phase"]]
        for layer in ALL:
            same = equal(before["parameters"][layer], after["parameters"][layer])
            assert same == (layer not in trained), layer
            if not before["statistics"][layer]:
                continue
            followed = "stats" in schedule or (layer in trained and "eval" not in schedule)
            assert equal(before["statistics"][layer], after["statistics"][layer]) != followed, layer


def test_phase_begins_with_a_step_and_not_within_its_window(train_here: Callable) -> None:
    schedule = "[{train: ['heads.*'], until_step: 3}, {train: ['*']}]"
    train_here(
        "fit", "--config", str(SMALL), "--schedule", schedule, "--trainer.accumulate_grad_batches", "3",
        "--trainer.callbacks+=layer_spies.RecordLayers", "--trainer.callbacks.file", "layers.pt",
    )  # fmt: skip
    phases = [step["phase"] for step in torch.load("layers.pt")]
    assert phases == [0] * 3 + [1] * 9  # 3 steps an epoch
