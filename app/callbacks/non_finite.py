"""Steps whose numbers are not finite: named, never saved, and after some of them the end of the run."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from app.ranks.collectives import gathered
from app.training.module import MultiTaskModule


class NotFiniteError(ArithmeticError):
    """Losses, gradients or weights are NaN or infinite, so that training is of no more use."""


class Flags:
    """Flags [N] of a step on their way from the device, which goes on with its work.

    To read them where they are would wait for all the work that the device was given after them.
    """

    def __init__(self, flags: Tensor) -> None:
        self._flags, self._arrived = flags.to("cpu", non_blocking=True), None
        if flags.device.type != "cpu":
            self._arrived = torch.Event(flags.device)
            self._arrived.record()

    def read(self) -> list[bool]:
        """The flags, once they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._flags.tolist()


class NonFinite(Callback):
    """Watches the numbers of a run, and ends it if they stay NaN or infinite.

    Losses and gradients are watched in every optimizer step, weights whenever they would be saved. A curve of
    validation is told of once and ends nothing: some metrics are undefined on some rows.

    A step's flags leave the device while the next step is computed, so that nothing waits for them. All ranks
    read the same flags, of losses and gradients that are summed over them, and stop at the same step.

    A scaler of fp16 skips steps whose gradients overflow: there losses alone count, and a finite step makes up for
    those before it. Otherwise the weights are lost with the first step that is not finite.

    Args:
        patience: Stop after so many steps that are not finite.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self._count = patience, 0
        self._first = ""  # what was not finite, and in which step
        self._pending: tuple[int, Flags] | None = None  # a step's number; losses, gradient
        self._gradient: Tensor | None = None
        self._tasks: list[str] = []
        self._told: set[str] = set()  # curves

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin without a step that was not finite."""
        assert isinstance(pl_module, MultiTaskModule)
        self._tasks = list(pl_module.network.tasks)
        self._count, self._first, self._pending, self._told = 0, "", None, set()
        self._scales = getattr(trainer.precision_plugin, "scaler", None) is not None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note whether the gradient's norm is finite, unless a scaler looks after it.

        The Euclidean norm, of which the CPU has a fast kernel; it overflows beyond 1e19, where training is lost too.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        known = gradients and not self._scales
        self._gradient = get_total_norm(gradients).isfinite() if known else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the flags of the step before, and keep this one's.

        Raises:
            NotFiniteError: Too many steps were not finite.
        """
        assert isinstance(pl_module, MultiTaskModule)
        if not pl_module.step_ends():
            return
        self._read(trainer)
        losses = pl_module.step.losses.isfinite()
        gradient = losses.new_ones(()) if self._gradient is None else self._gradient
        self._pending = trainer.global_step, Flags(torch.cat([losses, gradient.reshape(1)]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell once of each curve that is not finite, unless a step has been told of, which explains it."""
        if trainer.sanity_checking or self._count:
            return
        for name, value in trainer.callback_metrics.items():
            if name not in self._told and not value.isfinite():
                self._told.add(name)
                rank_zero_warn(f"step {trainer.global_step}: {name} is {value:g}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network whose last steps were not finite.

        Raises:
            NotFiniteError: They were not.
        """
        if self.spoiled(trainer):
            raise NotFiniteError(self._why(trainer))

    def spoiled(self, trainer: Trainer) -> bool:
        """Whether weights are not finite or follow such a step, so that they must not be saved. Waits; collective.

        Raises:
            NotFiniteError: Too many steps were not finite.
        """
        self._read(trainer)
        if not self._count and (wrong := _wrong_weight(trainer.lightning_module)):
            self._note(trainer, f"step {trainer.global_step}: {wrong}")
        return self._count > 0

    def _read(self, trainer: Trainer) -> None:
        """Count the step that is kept, if it was not finite."""
        if self._pending is None:
            return
        step, flags = self._pending
        self._pending = None
        *losses, gradient = flags.read()
        wrong = [name for name, finite in zip(self._tasks, losses, strict=True) if not finite]
        if not wrong and gradient:
            self._count = 0 if self._scales else self._count
            return
        self._note(trainer, f"step {step}: {_named(wrong)}")

    def _note(self, trainer: Trainer, what: str) -> None:
        """Count a step that was not finite, and tell of the first."""
        if not self._count:
            self._first = what
            rank_zero_warn(f"{self._first} is not finite; no checkpoint is written from here on")
        self._count += 1
        if self._count >= self.patience:
            raise NotFiniteError(self._why(trainer))

    def _why(self, trainer: Trainer) -> str:
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        causes = f"the rate ({rate:g}), " + ("or the range of fp16" if self._scales else "or a row of the data")
        return f"{self._first} is not finite, and {self._count} steps were not; a likely cause is {causes}"


def _named(tasks: list[str]) -> str:
    """What is not finite: the loss of a task, or else the gradient."""
    if not tasks:
        return "the gradient"
    return f"the loss of {tasks[0]!r}" + (f" (and of {len(tasks) - 1} more)" if tasks[1:] else "")


def _wrong_weight(module: LightningModule) -> str:
    """The first weight or buffer of the network that is not finite on some rank, or nothing. Collective."""
    assert isinstance(module, MultiTaskModule)
    weights = {name: x for name, x in module.network.state_dict().items() if x.is_floating_point()}
    fine = not weights or bool(get_total_norm(weights.values(), inf).isfinite())
    wrong = "" if fine else next(name for name, x in weights.items() if not x.isfinite().all())
    return next((f"the weight {name!r}" for name in gathered(wrong) if name), "")
