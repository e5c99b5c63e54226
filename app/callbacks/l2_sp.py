"""Stay near the weights that training started from."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from app.training.module import BALANCING, MultiTaskModule
from models.errors import ConfigurationError


class L2SP(Callback):
    """Pulls weights toward where they started, alpha/2·‖w − w₀‖², and new ones toward zero, beta/2·‖w‖².

    Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks" (2018), eq. 4.
    What started somewhere is what `model.init_from` gave, heads included; without it, all that is below the heads. What
    `model.reset_layers` draws anew is new. The gradients of the two terms are added once an optimizer step, before
    clipping, to weights that have a gradient in it: neither what is frozen nor an absent task's head moves. It replaces
    the optimizer's weight decay, which pulls toward zero: set that to 0.

    Args:
        alpha: Strength of the pull toward the starting point.
        beta: Strength of the pull of new weights toward zero.

    Raises:
        ValueError: One of them is negative or not finite.
    """

    def __init__(self, alpha: float, beta: float = 0.0) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < inf:
                raise ConfigurationError(f"trainer.callbacks.L2SP.{name}", "must be finite and not negative", value)
        self.alpha, self.beta = alpha, beta
        self._start: dict[str, Tensor] | None = None
        self._pulled: list[tuple[nn.Parameter, Tensor]] = []
        self._new: list[nn.Parameter] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights of the starting point; a resumed run has them from its checkpoint.

        Raises:
            ValueError: The checkpoint to go on from does not hold them.
        """
        assert isinstance(pl_module, MultiTaskModule)
        if trainer.ckpt_path and self._start is None:
            raise ConfigurationError(
                "trainer.callbacks.L2SP", "must be there from a run's start", "none in the checkpoint"
            )
        parameters = {name: p for name, p in pl_module.named_parameters() if not name.startswith(BALANCING)}
        start = {name: parameters[name].detach() for name in pl_module.start.given}
        start = start if self._start is None else self._start
        self._start = {name: weight.to(pl_module.device, copy=True) for name, weight in start.items()}
        self._pulled = [(parameters[name], weight) for name, weight in self._start.items()]
        self._new = [p for name, p in parameters.items() if name not in self._start]

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add the gradients of both terms to those of the losses, which are summed over ranks and micro-batches."""
        scale = _loss_scale(trainer, optimizer)
        for parameter, start in self._pulled:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=scale * self.alpha)
        for parameter in self._new if self.beta else []:
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=scale * self.beta)

    def state_dict(self) -> dict[str, Any]:
        """The starting point."""
        return {"start": self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the starting point of the run that is gone on with."""
        self._start = state_dict["start"]


def _loss_scale(trainer: Trainer, optimizer: Optimizer) -> float:
    """What gradients are multiplied by: under fp16, a fused optimizer divides them by the scale only in its step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler and getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0
