"""The progress bar."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from app.training.module import MultiTaskModule


class TaskProgressBar(TQDMProgressBar):
    """Shows every task's mean loss in the epoch so far, on this process, and the last `loss/val/total`."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)

    def get_metrics(  # type: ignore[override]  # the parent's type is narrower than what tqdm takes
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, str]:
        """Task → loss. Waits for the device, which is why the bar is drawn every tenth step only."""
        assert isinstance(pl_module, MultiTaskModule)
        losses = pl_module.stages["train"].losses
        means = dict(zip(pl_module.network.tasks, (losses.total / losses.rows).tolist(), strict=True))
        if "loss/val/total" in trainer.callback_metrics:
            means["val"] = trainer.callback_metrics["loss/val/total"].item()
        return {name: f"{mean:.3f}" for name, mean in means.items()}
