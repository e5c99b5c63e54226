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

from app.training.module import MultiTaskModule


class NotFiniteError(ArithmeticError):
    """Losses or gradients are NaN or infinite, so that training is of no more use."""


class NonFinite(Callback):
    """Watches the losses and gradients of every optimizer step, and ends a run whose numbers stay NaN or infinite.

    A step's flags stay on the device until the next step has been asked for, so that nothing waits for them. All ranks
    read the same flags, of losses and gradients that are summed over them, and stop at the same step.

    A scaler of fp16 skips steps whose gradients overflow: there losses alone count, and a finite step makes up for
    those before it. Otherwise the weights are lost with the first step that is not finite.

    Args:
        patience: Stop after so many steps that are not finite.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self._count = patience, 0
        self._first = ""  # what was not finite, and in which step
        self._pending: tuple[int, Tensor] | None = None  # a step's number and flags [T + 1]: losses, gradient
        self._gradient: Tensor | None = None
        self._tasks: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin without a step that was not finite."""
        assert isinstance(pl_module, MultiTaskModule)
        self._tasks = list(pl_module.network.tasks)
        self._count, self._first, self._pending = 0, "", None
        self._scales = getattr(trainer.precision_plugin, "scaler", None) is not None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note whether the gradient is finite, unless a scaler looks after it."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        known = gradients and not self._scales
        self._gradient = get_total_norm(gradients, inf).isfinite() if known else None

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
        self._pending = trainer.global_step, torch.cat([losses, gradient.reshape(1)])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network whose last steps were not finite.

        Raises:
            NotFiniteError: They were not.
        """
        if self.spoiled(trainer):
            raise NotFiniteError(self._why(trainer))

    def spoiled(self, trainer: Trainer) -> bool:
        """Whether the weights follow a step that was not finite, so that they must not be saved; waits for the device.

        Raises:
            NotFiniteError: Too many steps were not finite.
        """
        self._read(trainer)
        return self._count > 0

    def _read(self, trainer: Trainer) -> None:
        """Count the step that is kept, if it was not finite."""
        if self._pending is None:
            return
        step, flags = self._pending
        self._pending = None
        *losses, gradient = flags.tolist()
        wrong = [name for name, finite in zip(self._tasks, losses, strict=True) if not finite]
        if not wrong and gradient:
            self._count = 0 if self._scales else self._count
            return
        if not self._count:
            self._first = f"step {step}: {_named(wrong)}"
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
