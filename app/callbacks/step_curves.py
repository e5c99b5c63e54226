"""The curves of single steps."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from app.measuring.balance import curves, of_step
from app.training.module import MultiTaskModule


class StepCurves(Callback):
    """Writes `loss/step/<task>`, `lr/step/<layer>`, `penalty/<name>` and what balancing shows.

    Every `trainer.log_every_n_steps` steps.

    It stands before the callbacks that save or leave at the end of a step, so that this step's points are written.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note the rates of this step: when it has ended, the scheduler has set the next one's."""
        self._rates = {f"lr/step/{group['layer']}": group["lr"] for group in optimizer.param_groups}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the losses and learning rates of a step that has ended."""
        assert isinstance(pl_module, MultiTaskModule)
        every: Any = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        if not every or not pl_module.step_ends() or trainer.global_step % every:
            return
        values = {f"loss/step/{name}": loss for name, loss in pl_module.step.by_task().items()}
        if pl_module.balancing.shows:
            names = list(pl_module.network.tasks)
            shown = curves(names, "step", of_step(pl_module.balancing.record, len(names)))
            values |= {name: value.item() for name, value in shown.items()}
        values |= pl_module.penalties.values()
        for logger in trainer.loggers:
            logger.log_metrics(values | self._rates, step=trainer.global_step - 1)  # as Lightning counts its own
