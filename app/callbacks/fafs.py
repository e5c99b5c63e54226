"""Splits a branching network in training, where its tasks err on other rows."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from app.branching.fafs import affinity_of_tasks, parted
from app.ranks.collectives import gathered
from app.training.module import MultiTaskModule
from app.training.schedulers import total_epochs
from app.training.splits import split
from datamodules.batch import MultiTaskBatch
from models.errors import ConfigurationError
from models.sharing import Branching

KEY = "trainer.callbacks.FAFS"


class FAFS(Callback):
    """Fully-adaptive feature sharing: from the top stage down, tasks that err on the same rows share a branch.

    Lu et al., "Fully-Adaptive Feature Sharing in Multi-Task Networks with Applications in Person Attribute
    Classification" (2017). At the validation that ends one of `epochs`, the branches of the next stage are the spectral
    groups of those of the stage above that minimise (d − 1)·cost·2^p + separation, see `app.branching.fafs`; p is how
    often height and width are halved above the stage. The split is made before the next step, and training goes on.

    Departures: the rows are those of validation (in the paper of training), without dropout and seen once; the paper
    has no epochs but goes on when training has converged; and only the ratio `cost` of its L₀ and α matters.

    Args:
        epochs: After how many epochs each stage that has parameters is split, the top one first; stages that have no
            epoch stay as they are.
        cost: Of one more branch at the top stage, to a separation in [0, 1].

    Raises:
        ConfigurationError: The epochs do not ascend from 1, or the cost is negative or not finite.
    """

    def __init__(self, epochs: list[int], cost: float = 0.1) -> None:
        if not epochs or epochs[0] < 1 or sorted({*epochs}) != epochs:
            raise ConfigurationError(f"{KEY}.epochs", "must ascend from 1 or later", epochs)
        if not (isfinite(cost) and cost >= 0):
            raise ConfigurationError(f"{KEY}.cost", "must be finite and not negative", cost)
        self.epochs, self.cost = epochs, cost
        self.done = 0  # stages that were decided on
        self.pending: list[list[str]] = []  # groups of the last of these, until they are apart
        self._seen: list[tuple[Tensor, Tensor]] = []  # of each batch the rows [B], and errors [B, T]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be split.

        Raises:
            ConfigurationError: The scheme is no `Branching`, an epoch is none of the run or has no stage, nothing is
                validated, or no row of validation carries the labels of two tasks.
        """
        assert isinstance(pl_module, MultiTaskModule)
        if stage != "fit":
            return
        sharing = pl_module.network.sharing
        if not isinstance(sharing, Branching):
            raise ConfigurationError("model.sharing", "must be Branching under FAFS", type(sharing).__name__)
        if len(self.epochs) > len(sharing.stages):
            rule = f"must be at most {len(sharing.stages)}, one a stage that has parameters"
            raise ConfigurationError(f"{KEY}.epochs", rule, self.epochs)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        check_rows(data.datasets["val"].labelled, sharing.tasks)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if trainer.limit_val_batches == 0:
            raise ConfigurationError("trainer.limit_val_batches", "must leave FAFS rows of validation", 0)
        end = total_epochs(trainer)
        if end is not None and self.epochs[-1] >= end:
            raise ConfigurationError(f"{KEY}.epochs", f"must be less than the run's {end} epochs", self.epochs)

    def _due(self, trainer: Trainer) -> bool:
        """Whether the validation under way ends an epoch after which a stage is to be split."""
        ends = trainer.is_last_batch and not trainer.sanity_checking
        return ends and self.done < len(self.epochs) and trainer.current_epoch + 1 >= self.epochs[self.done]

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: MultiTaskBatch, *place: int
    ) -> None:
        """Keep how far each task is off."""
        if not self._due(trainer) or not batch.rows:
            return
        assert isinstance(pl_module, MultiTaskModule)
        network = pl_module.network
        with trainer.precision_plugin.forward_context():
            predicted = network(batch.inputs, batch.rows)
        errors = torch.full((len(batch.ids), len(network.tasks)), torch.nan, dtype=torch.float64)
        for number, (name, task) in enumerate(network.tasks.items()):
            if name in batch.rows:
                off = task.errors(predicted[name], batch.targets[name])
                errors[batch.rows[name].cpu(), number] = off.to("cpu", torch.float64)
        self._seen.append((batch.ids.cpu(), errors))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide on the next stage, alike on all ranks."""
        if not self._due(trainer):
            return
        assert isinstance(pl_module, MultiTaskModule)
        sharing = pl_module.network.sharing
        assert isinstance(sharing, Branching)
        seen = [part for rank in gathered(self._seen) for part in rank]
        self._seen = []
        order = torch.cat([ids for ids, _ in seen]).argsort()  # the same on any number of ranks
        affinity = affinity_of_tasks(torch.cat([errors for _, errors in seen])[order].numpy())
        stage = sharing.stages[-1 - self.done]
        above = sharing.groups(sharing.stages[-self.done]) if self.done else [[task] for task in sharing.tasks]
        numbers = [[sharing.tasks.index(task) for task in group] for group in above]
        cost = self.cost * 2 ** sharing.halvings[stage]
        self.pending = [[sharing.tasks[i] for i in group] for group in parted(affinity, numbers, cost)]
        self.done += 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Split what was decided on, before the step begins."""
        if not self.pending:
            return
        assert isinstance(pl_module, MultiTaskModule)
        sharing = pl_module.network.sharing
        assert isinstance(sharing, Branching)
        stage = sharing.stages[-self.done]
        split(trainer, pl_module, stage, self.pending)
        self.pending = []
        rank_zero_info(f"Epoch {trainer.current_epoch}: branches at stage {stage}: {sharing.groups(stage)}")

    def state_dict(self) -> dict[str, Any]:
        """How many stages were decided on, and what is to be split."""
        return {"done": self.done, "pending": self.pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; the tree itself is among the weights."""
        self.done, self.pending = state_dict["done"], state_dict["pending"]


def check_rows(labelled: Tensor, tasks: list[str]) -> None:
    """Refuse tasks that cannot be compared.

    Args:
        labelled: [T, N] which rows carry which label.
        tasks: The names of the T.

    Raises:
        ConfigurationError: No row carries the labels of some two.
    """
    both = labelled.double() @ labelled.double().T
    if len(found := (both == 0).nonzero()):
        one, other = (tasks[i] for i in found[0].tolist())
        raise ConfigurationError(
            KEY, "needs rows of validation with the labels of any two tasks", f"none of {one!r} and {other!r}"
        )
