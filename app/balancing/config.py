"""What the configuration says of balancing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from torchjd.aggregation import Aggregator

from app.balancing.base import JacobianRule, Scalarizer, Weighting
from models.errors import ConfigurationError

Balancer = Scalarizer | Weighting | Aggregator


@dataclass
class GradientConfig:
    """What a gradient method looks at, and how often.

    Args:
        level: Compare the tasks' gradients of all shared `parameters` (exact), or of the shared `features` alone
            (MGDA-UB, Sener & Koltun 2018, section 3.3): nearly as cheap as a plain sum, but tasks without common rows
            never conflict there.
        every: Find new weights in every so many optimizer steps, and keep them in between.
        scale_heads: Let the weights apply to the tasks' own parameters too, as the code of Nash-MTL does.
        loss_transform: A loss weighting, e.g. `IMTLL` or `LogLosses`, whose weighted losses the gradient method
            balances.
    """

    level: Literal["parameters", "features"] = "parameters"
    every: int = 1
    scale_heads: bool = False
    loss_transform: Scalarizer | None = None


def check_config(method: Scalarizer | Weighting | JacobianRule, name: str, config: GradientConfig) -> None:
    """Refuse what does not fit together.

    Args:
        method: What balances.
        name: What the user calls it.
        config: The options.

    Raises:
        ConfigurationError: An option of gradient methods is given to a loss weighting, or to a method without weights
            one that is about these.
    """
    if config.every < 1:
        raise ConfigurationError("model.gradients.every", "must be at least 1", config.every)
    if config.level == "features" and config.loss_transform is not None and config.loss_transform.wants_norms:
        raise ConfigurationError(
            "model.gradients.level",
            "must be 'parameters' with a loss transform that looks at gradients",
            f"{config.level!r} with {type(config.loss_transform).__name__}",
        )
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in method.unused_options and value != field.default:
            found = type(value).__name__ if isinstance(value, Scalarizer) else value
            raise ConfigurationError(f"model.gradients.{field.name}", f"is not for {method.kind} such as {name}", found)


def check_accumulation(scalarizer: Scalarizer, config: GradientConfig, micro_batches: int) -> None:
    """Refuse to accumulate what has to be known of a whole step at once.

    Raises:
        ConfigurationError: Shared features, or losses after the update, are wanted of several micro-batches.
    """
    if micro_batches > 1 and (config.level == "features" or scalarizer.needs_whole_batch):
        what = "model.gradients.level features" if config.level == "features" else type(scalarizer).__name__
        raise ConfigurationError(
            "trainer.accumulate_grad_batches",
            f"must be 1 with {what}, which needs a step's whole batch at once",
            micro_batches,
        )
