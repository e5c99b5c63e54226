"""The configuration, beside what came of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from app.runs import CONFIGURATION, whole_file


class ConfigEcho(SaveConfigCallback):
    """Writes `config.yaml` into the run's folder: with it alone, `fit` repeats the run from its start."""

    def __init__(self, parser: Any, config: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep it with the weights, for every use of them."""
        checkpoint[CONFIGURATION] = self.text

    @cached_property
    def text(self) -> str:
        """All values, defaults too, but not the checkpoint that the run went on from."""
        config = self.config.clone()
        config.ckpt_path = None
        text: str = self.parser.dump(config, skip_unset=False)
        return text

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it."""
        with whole_file(Path(trainer.default_root_dir) / self.config_filename) as file:
            file.write(self.text.encode())
