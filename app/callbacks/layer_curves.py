"""The curves of layers under a schedule."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer

from app.training.module import MultiTaskModule


class LayerCurves(Callback):
    """Writes what a schedule does to each layer, every `trainer.log_every_n_steps` steps.

    `trainable/step/<layer>` is how many of its parameters are trained, `update_norm/step/<layer>` the norm of what the
    step changed in them, and `phase/step` the phase, counted from 1; TensorBoard also gets a text where one begins.
    """

    def __init__(self) -> None:
        self._before: dict[str, list[Tensor]] = {}
        self._phase = -1  # the one that was last written as a text

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Mark a phase that begins, and keep the weights of a step that will be written."""
        assert isinstance(pl_module, MultiTaskModule)
        assert pl_module.fine_tuning
        tuning, step = pl_module.fine_tuning, trainer.global_step
        if tuning.progress.number != self._phase and trainer.is_global_zero:
            self._phase = tuning.progress.number
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_text("phase", str(tuning), step)
        every: Any = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        if every and (step + 1) % every == 0:
            self._before = {layer: [p.detach().clone() for p in ps] for layer, ps in pl_module.network.layers.items()}

    def state_dict(self) -> dict[str, Any]:
        """The phase that was last marked."""
        return {"phase": self._phase}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do not mark it again."""
        self._phase = state_dict["phase"]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the points of a step that has ended."""
        assert isinstance(pl_module, MultiTaskModule)
        assert pl_module.fine_tuning
        if not self._before:
            return
        tuning = pl_module.fine_tuning
        values = {"phase/step": float(tuning.progress.number + 1)}
        values |= {f"trainable/step/{layer}": float(number) for layer, number in tuning.trained.items()}
        for layer, before in self._before.items():
            changes = [now - was for now, was in zip(pl_module.network.layers[layer], before, strict=True)]
            values[f"update_norm/step/{layer}"] = torch.nn.utils.get_total_norm(changes).item()
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)  # as Lightning counts its own
        self._before = {}
