"""The pull toward the starting point."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from torch import Tensor

BY_HAND = """
import torch
from lightning.pytorch import Callback

class ByHand(Callback):
    '''The two terms as a loss.'''

    def on_train_start(self, trainer, pl_module):
        self.start = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = dict(pl_module.named_parameters())
        old = [p for name, p in named.items() if name.startswith("network.sharing.")]
        new = [p for name, p in named.items() if not name.startswith("network.sharing.")]
        starts = [w for name, w in self.start.items() if name.startswith("network.sharing.")]
        loss = 0.3 / 2 * sum((p - w).square().sum() for p, w in zip(old, starts))
        loss = loss + 0.2 / 2 * sum(p.square().sum() for p in new)
        for p, gradient in zip([*old, *new], torch.autograd.grad(loss, [*old, *new])):
            p.grad += gradient
"""
FIT = ["fit", "--config", str(SMALL), "--trainer.logger", "false", "--trainer.limit_val_batches", "0",
       "--model.backbone.init_args.dropout", "0"]  # fmt: skip
EXACT = [*FIT, "--trainer.max_epochs", "2", "--trainer.precision", "64-true", "--model.optimizer", "SGD",
         "--model.optimizer.lr", "0.1", "--trainer.gradient_clip_val", "0.5"]  # fmt: skip
L2SP = ["--trainer.callbacks+=L2SP", "--trainer.callbacks.alpha", "0.3", "--trainer.callbacks.beta", "0.2"]


def weights(name: str) -> dict[str, Tensor]:
    state = torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {key: x for key, x in state.items() if key.startswith(("network.sharing.", "network.heads."))}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((x - other[name]).abs().max()) for name, x in one.items())


def test_gradients_are_those_of_the_terms_once_a_step(train_here: Callable) -> None:
    Path("by_hand.py").write_text(BY_HAND)
    train_here(*EXACT, "--name", "plain")
    train_here(*EXACT, "--name", "by_hand", "--trainer.callbacks+=by_hand.ByHand")
    train_here(*EXACT, "--name", "ours", *L2SP)
    accumulated = ["--data.sampling.batch_size", "16", "--trainer.accumulate_grad_batches", "2"]
    train_here(*EXACT, "--name", "two", *L2SP, *accumulated)
    expected = weights("by_hand")
    assert largest_difference(weights("plain"), expected) > 1e-3
    assert largest_difference(weights("ours"), expected) <= 1e-12
    assert largest_difference(weights("two"), expected) <= 1e-9


@pytest.mark.parametrize("fused", ["false", "true"])
def test_loss_scale_does_not_scale_the_terms(train_here: Callable, fused: str) -> None:
    for name, scale in (("one", 1), ("large", 2.0**12)):
        scaler = f"{{class_path: torch.amp.GradScaler, init_args: {{device: cpu, init_scale: {scale}}}}}"
        plugin = f"[{{class_path: MixedPrecision, init_args: {{precision: 16-mixed, device: cpu, scaler: {scaler}}}}}]"
        sgd = ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--model.optimizer.fused", fused]
        train_here(*FIT, "--trainer.max_epochs", "1", "--name", name, "--trainer.plugins", plugin, *L2SP, *sgd)
    assert largest_difference(weights("one"), weights("large")) <= 1e-3


def test_resumed_run_is_pulled_to_where_it_started(train_here: Callable) -> None:
    options = [*FIT, *L2SP, "--save_every_n_steps", "3", "--trainer.max_epochs", "2"]
    train_here(*options, "--name", "whole")
    fail = ["--trainer.callbacks+=spies.FailAt", "--trainer.callbacks.epoch", "1", "--trainer.callbacks.batch", "5"]
    with pytest.raises(SystemExit):
        train_here(*options, "--name", "stopped", *fail)
    train_here(*options, "--name", "stopped", "--ckpt_path", "last")
    assert largest_difference(weights("whole"), weights("stopped")) == 0


def test_what_is_frozen_is_not_pulled(train_here: Callable) -> None:
    train_here(*FIT, "--name", "first", "--trainer.max_epochs", "1")
    start = ["--model.init_from", "runs/first/version_0/checkpoints/last.ckpt"]
    phases = "[{train: ['*'], until_epoch: 1}, {train: ['backbone.*']}]"
    for name, epochs in (("one", "1"), ("two", "2")):
        ending = phases if name == "two" else "[{train: ['*']}]"
        train_here(*FIT, "--name", name, "--trainer.max_epochs", epochs, *start, "--schedule", ending, *L2SP,
                   "--model.lr_scheduler", "null")  # fmt: skip
    one, two = weights("one"), weights("two")
    assert all(torch.equal(x, two[name]) for name, x in one.items() if name.startswith("network.heads."))
    assert not all(torch.equal(x, two[name]) for name, x in one.items())


@pytest.mark.parametrize(("option", "value"), [("alpha", "-1"), ("beta", "-0.5")])
def test_bad_strength_is_one_line(train_here: Callable, capfd: pytest.CaptureFixture, option: str, value: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_here(*FIT, *L2SP, f"--trainer.callbacks.{option}={value}")
    line = capfd.readouterr().err.splitlines()[-1]
    assert f"trainer.callbacks.L2SP.{option}: must be finite and not negative, found {value}" in line


def test_run_without_it_cannot_go_on_with_it(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here(*FIT, "--name", "without", "--trainer.max_epochs", "1")
    with pytest.raises(SystemExit, match="2"):
        train_here(*FIT, "--name", "without", "--trainer.max_epochs", "2", "--ckpt_path", "last", *L2SP)
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: trainer.callbacks.L2SP: must be there from")
