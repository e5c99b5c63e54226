"""A run of a search that is no more."""

from __future__ import annotations

import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class EndWithParent(Callback):
    """Asks the run to stop once the search that started it is gone: another process trains the trial again.

    Args:
        parent: The search's process.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look for it; the first process alone is its child."""
        if trainer.is_global_zero and os.getppid() != self.parent:
            os.kill(os.getpid(), signal.SIGTERM)
