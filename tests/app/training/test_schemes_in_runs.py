"""Schemes that restructure the network under a schedule, an average of the weights, and compiled."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from conftest import SMALL
from torch import Tensor

SCHEMES = {
    "cross-stitch": ["CrossStitch"],
    "ple": ["PLE", "--model.sharing.levels", "[0, 1]"],
    "adapters": ["LowRankAdapters", "--model.sharing.rank", "2"],
    "branching": ["Branching", "--model.sharing.tree", "{2: [[left, sum], [right, parity]]}"],
}
RECORD = ["--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder", ".",
          "--trainer.callbacks.parameters", "true"]  # fmt: skip
BEGINNINGS = "network.sharing.", "network.heads."


def fit(scheme: str, *options: str) -> list[str]:
    return ["fit", "--config", str(SMALL), "--model.sharing", *SCHEMES[scheme], "--trainer.limit_test_batches", "1",
            "--model.backbone.init_args.dropout", "0", *options]  # fmt: skip


def equal(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.slow
def test_frozen_layers_stay_and_what_a_scheme_adds_is_trained_from_the_first_phase_on(
    train_here: Callable, scheme: str
) -> None:
    schedule = ["--schedule", "{preset: gradual_unfreeze, phases: 3}", "--trainer.limit_train_batches", "3"]
    spy = ["--trainer.callbacks+=layer_spies.RecordLayers", "--trainer.callbacks.file", "layers.pt"]
    train_here(*fit(scheme, *schedule, *spy))
    steps = torch.load("layers.pt")
    assert {step["phase"] for step in steps} == {0, 1, 2}
    for before, after in pairwise(steps):
        frozen = {"backbone.stage0", "backbone.stage1", "backbone.stage2"} if after["phase"] == 0 else set()
        frozen |= {"backbone.stage0"} if after["phase"] == 1 else set()
        for layer in after["parameters"]:
            same = equal(before["parameters"][layer], after["parameters"][layer])
            assert same == (layer in frozen), (layer, after["phase"])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.slow
def test_average_of_the_weights_is_the_one_by_hand(train_here: Callable, scheme: str) -> None:
    ema = ["--trainer.callbacks+=EMA", "--trainer.callbacks.decay", "0.8", "--trainer.precision", "64-true"]
    train_here(*fit(scheme, *ema, *RECORD, "--trainer.max_epochs", "2"))
    kept = torch.load("parameters-0.pt")  # [steps, P]
    average = kept[0]
    for weights in kept[1:]:
        average = 0.8 * average + 0.2 * weights
    state = torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    ours = [x.flatten() for name, x in state.items() if name.startswith(BEGINNINGS) and not name.endswith(".tree")]
    torch.testing.assert_close(torch.cat(ours), average, rtol=0, atol=1e-12)
    assert (average - kept[-1]).abs().max() > 1e-4


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.slow
def test_compiled_run_ends_where_the_plain_one_does(train_here: Callable, scheme: str) -> None:
    few = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "4", "--trainer.limit_val_batches", "0",
           "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1"]  # fmt: skip
    ends = []
    for compiled in ("false", "true"):
        torch.compiler.reset()
        update = ["--model.compile", compiled, "--model.balancer", "UPGrad"]
        train_here(*fit(scheme, *few, *RECORD, *update, "--trainer.limit_test_batches", "0"))
        ends.append(torch.load("parameters-0.pt"))
    torch.compiler.reset()
    assert (ends[0][-1] - ends[0][0]).abs().max() > 1e-3
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)
