"""Ways to train that would give other results than those that are promised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from torch import Tensor
from torch.optim import Optimizer, SparseAdam

from app.balancing import GradientConfig, Update, check_accumulation
from app.measuring.stage import StageMetrics
from app.network.network import Network
from datamodules.batch import Inputs
from models.errors import ConfigurationError
from models.sharing import Sharing


def check_supported(trainer: Trainer, sharing: Sharing, stages: Iterable[StageMetrics], balancing: Update) -> None:
    """Refuse strategies whose gradients are not ours to sum, precisions in which sums go wrong, inputs of another kind.

    Raises:
        ValueError: Several processes otherwise than by `ddp` or with a metric that they cannot gather, half precision
            otherwise than mixed, accumulation where a balancer needs the whole step at once, or integers as inputs
            where the backbone reads real numbers or vice versa.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
    check_inputs(data.example, sharing.blank(data.input_shape, 1))
    check_accumulation(balancing.scalarizer, balancing.config, trainer.accumulate_grad_batches)
    strategy, precision = trainer.strategy, str(trainer.precision)
    if trainer.world_size > 1:
        if not isinstance(strategy, DDPStrategy) or isinstance(strategy.launcher, _MultiProcessingLauncher):
            raise ConfigurationError("trainer.strategy", "several processes need 'ddp'", type(strategy).__name__)
        for metrics in stages:
            metrics.check_gatherable()
        if strategy._layer_sync is not None:
            raise ConfigurationError(
                "trainer.sync_batchnorm",
                "must be false: a process without rows would keep the others waiting, and running statistics are "
                "averaged over the processes anyway",
                "true",
            )
    if precision in ("16-true", "bf16-true"):
        mixed = precision.replace("true", "mixed")
        raise ConfigurationError(
            "trainer.precision", f"sums of losses and metrics need 32 bits; set {mixed!r}", repr(precision)
        )


def check_inputs(example: Inputs, blank: Inputs) -> None:
    """Refuse indices for a backbone that reads real numbers, and real numbers for one that reads indices.

    Args:
        example: A row of the data.
        blank: A row as the backbones read it.

    Raises:
        ValueError: They are not of one kind.
    """
    for name, found in named(example).items():
        read = named(blank)[name].dtype
        if found.is_floating_point() != read.is_floating_point:
            raise ConfigurationError(
                "data.sources", f"inputs must be {read}, as model.backbone reads them", found.dtype
            )


def named(inputs: Inputs) -> dict[str, Tensor]:
    """Inputs by modality, if there is only one too."""
    return inputs if isinstance(inputs, dict) else {"": inputs}


def check_level(gradients: GradientConfig, network: Network) -> None:
    """Refuse to compare the tasks at shared features where there are none.

    Raises:
        ValueError: The sharing scheme passes on no features, or a head is read with its gradient, past these.
    """
    if gradients.level == "parameters" or network.passes_on_features:
        return
    why = f"with {type(network.sharing).__name__}, whose shared part does not end in features"
    if network.sharing.passes_on_features:
        why = f"where a task reads others with `detached: false`, as {sorted(network.read)} are read"
    raise ConfigurationError("model.gradients.level", f"must be 'parameters' {why}", repr(gradients.level))


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse what does not step as those of torch.optim do.

    Raises:
        ValueError: It is no optimizer, wants sparse gradients, or has modes for training and evaluation, which nobody
            would switch.
    """
    if not isinstance(optimizer, Optimizer):
        raise ConfigurationError("model.optimizer", "must make a torch.optim.Optimizer", type(optimizer).__name__)
    if isinstance(optimizer, SparseAdam):
        raise ConfigurationError("model.optimizer", "must take gradients that are dense", type(optimizer).__name__)
    if hasattr(optimizer, "train") and hasattr(optimizer, "eval"):
        raise ConfigurationError(
            "model.optimizer", "must have one mode for training and evaluation", type(optimizer).__name__
        )
