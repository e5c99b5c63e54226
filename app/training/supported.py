"""Ways to train that would give other results than those that are promised."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from app.balancing import Update, check_accumulation
from app.measuring.stage import StageMetrics
from models.errors import ConfigurationError


def check_supported(trainer: Trainer, stages: Iterable[StageMetrics], balancing: Update) -> None:
    """Refuse strategies whose gradients are not ours to sum, and precisions in which sums of an epoch go wrong.

    Raises:
        ValueError: Several processes otherwise than by `ddp` or with a metric that they cannot gather, half precision
            otherwise than mixed, or accumulation where a balancer needs the whole step at once.
    """
    check_accumulation(balancing.scalarizer, balancing.config, trainer.accumulate_grad_batches)
    strategy, precision = trainer.strategy, str(trainer.precision)
    if trainer.world_size > 1:
        if not isinstance(strategy, DDPStrategy) or isinstance(strategy.launcher, _MultiProcessingLauncher):
            raise ConfigurationError("trainer.strategy", "several processes need 'ddp'", type(strategy).__name__)
        for metrics in stages:
            metrics.check_gatherable()
    if precision in ("16-true", "bf16-true"):
        mixed = precision.replace("true", "mixed")
        raise ConfigurationError(
            "trainer.precision", f"sums of losses and metrics need 32 bits; set {mixed!r}", repr(precision)
        )
