"""A branch that splits in training: what goes with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from app.training.module import MultiTaskModule
from models.sharing import Branching
from models.sharing.branching import Groups


@runtime_checkable
class FollowsSplits(Protocol):
    """A callback that keeps something of every parameter."""

    def follow_split(self, stage: int, groups: Groups, came_from: Mapping[str, str]) -> None:
        """Keep the same of the parameters of new branches.

        Args:
            stage: Where branches were parted, and above.
            groups: Of the tasks, which no longer share a branch there.
            came_from: Name in the network of a parameter or buffer of a new branch → of the one that it equals.
        """


def split(trainer: Trainer, module: MultiTaskModule, stage: int, groups: Groups) -> None:
    """Part the branches of a network between two steps, with the optimizer's state and what callbacks keep.

    Args:
        trainer: Its optimizer and callbacks follow.
        module: Its sharing scheme is `Branching`.
        stage: See `Branching.split`.
        groups: See there.
    """
    sharing = module.network.sharing
    assert isinstance(sharing, Branching)
    came_from = {f"sharing.{new}": f"sharing.{old}" for new, old in sharing.split(stage, groups).items()}
    parameters = dict(module.network.named_parameters())
    for optimizer in trainer.optimizers:
        copy_state(optimizer, parameters, came_from)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
        if isinstance(callback, FollowsSplits):
            callback.follow_split(stage, groups, came_from)


def copy_state(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], came_from: Mapping[str, str]) -> None:
    """Give parameters the momentum, the moments and the count of steps of others.

    Args:
        optimizer: Of all of them.
        parameters: By name.
        came_from: Name → that of the one whose state it gets; names of none are left out.
    """
    for new, old in came_from.items():
        if new in parameters:
            optimizer.state[parameters[new]] = {
                key: copied(value) for key, value in optimizer.state.get(parameters[old], {}).items()
            }


def copied(value: Any) -> Any:
    """A tensor of its own; anything else as it is."""
    return torch.clone(value.detach()) if isinstance(value, Tensor) else value
