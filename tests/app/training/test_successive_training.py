"""Tasks that are trained one after the other, each held near what the one before has left."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars
from resuming import fit, kill_and_resume
from torch import Tensor

BY_HAND = """
import torch
from lightning.pytorch import Callback

class ByHand(Callback):
    '''The term as a loss, between snapshots at the steps that begin a phase: two of 32 rows a task.'''

    def shared(self, network):
        return [*network.sharing.parameters(), *network.heads["left"].parameters()]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx % 2 == 0:
            self.before = [p.detach().clone() for p in self.shared(pl_module.network)]

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        shared = self.shared(pl_module.network)
        loss = 0.3 * sum((p - w).square().sum() for p, w in zip(shared, self.before))
        for p, gradient in zip(shared, torch.autograd.grad(loss, shared)):
            if p.grad is not None:
                p.grad += gradient
"""
DATA = ["--data.sources.digits.init_args.train_pairs", "64", "--data.sampling", "Successive"]
CASCADE = ["--model.tasks.sum.reads", "[left]", "--model.tasks.sum.detached", "false", "--model.tasks.parity.reads",
           "[right]"]  # fmt: skip
HELD = ["--trainer.callbacks+=SuccessiveRegularization", "--trainer.callbacks.strength", "0.3"]
EXACT = ["fit", "--config", str(SMALL), *CASCADE, "--trainer.max_epochs", "2", "--trainer.precision", "64-true",
         "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--trainer.limit_val_batches", "0",
         "--model.backbone.init_args.dropout", "0", *DATA]  # fmt: skip


def weights(name: str) -> dict[str, Tensor]:
    state = torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {key: x for key, x in state.items() if key.startswith(("network.sharing.", "network.heads."))}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((x - other[name]).abs().max()) for name, x in one.items())


def test_gradient_is_that_of_the_term_by_hand(train_here: Callable, tmp_path: Path) -> None:
    Path("by_hand.py").write_text(BY_HAND)
    size = ["--data.sampling.batch_size", "32"]
    train_here(*EXACT, *size, "--name", "plain")
    train_here(*EXACT, *size, "--name", "by_hand", "--trainer.callbacks+=by_hand.ByHand")
    train_here(*EXACT, *size, "--name", "ours", *HELD)
    halves = ["--data.sampling.batch_size", "16", "--trainer.accumulate_grad_batches", "2"]
    train_here(*EXACT, *halves, "--name", "two", *HELD)
    expected = weights("by_hand")
    assert largest_difference(weights("plain"), expected) > 1e-4
    assert largest_difference(weights("ours"), expected) <= 1e-12
    assert largest_difference(weights("two"), expected) <= 1e-9
    curve = [value for _, value in scalars(tmp_path / "runs/ours/version_0")["penalty/successive"]]
    assert len(curve) == 2 * 4 * 2
    assert min(curve) > 0


@pytest.mark.slow
def test_two_ranks_end_where_one_does(train: Train, train_here: Callable) -> None:
    one = ["--data.sampling.batch_size", "24"]  # and a last step of 16 rows
    train_here(*EXACT, *one, *HELD, "--name", "one")
    two = ["--data.sampling.batch_size", "12", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    train(*EXACT, *two, *HELD, "--name", "two")
    assert largest_difference(weights("one"), weights("two")) <= 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_killed_run_goes_on_in_the_middle_of_a_phase(train: Train, train_here: Callable, optimizer: str) -> None:
    momentum = ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--model.optimizer.momentum", "0.9"]
    # Phases of 2 steps, 8 steps an epoch: step 9 is the second of its phase, step 12 the first.
    options = [*DATA, "--data.sampling.batch_size", "32", *CASCADE, *HELD, "--trainer.max_epochs", "3"]
    options += momentum if optimizer == "SGD" else []
    train_here(*fit("whole", *options))
    for step in (11, 13):
        kill_and_resume(train, train_here, options, step, name=str(step))


def test_it_needs_phases_and_a_checkpoint_that_has_it(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    small = ["fit", "--config", str(SMALL), "--trainer.limit_val_batches", "0", "--trainer.max_epochs"]
    for arguments, line in (
        (["1", *HELD], "trainer.callbacks.SuccessiveRegularization: needs data.sampling Successive, found Shared"),
        (
            ["1", *DATA, *HELD[:-1], "-1"],
            "SuccessiveRegularization.strength: must be finite and not negative, found -1",
        ),
    ):
        with pytest.raises(SystemExit, match="2"):
            train_here(*small, *arguments)
        assert line in capfd.readouterr().err.splitlines()[-1]
    train_here(*small, "1", *DATA, "--name", "without")
    with pytest.raises(SystemExit, match="2"):
        train_here(*small, "2", *DATA, *HELD, "--name", "without", "--ckpt_path", "last")
    assert "SuccessiveRegularization: must be there from a run's start" in capfd.readouterr().err.splitlines()[-1]
