"""Stay near the weights that the task before has left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from app.training.module import MultiTaskModule
from app.training.penalties import Term
from datamodules.batch import MultiTaskBatch
from datamodules.sampling import Successive
from models.errors import ConfigurationError
from models.sharing.branching import Groups

KEY = "trainer.callbacks.SuccessiveRegularization"


class SuccessiveRegularization(Callback):
    """Holds what tasks share near what the one trained before has left: δ‖θ − θ'‖².

    Hashimoto et al., "A Joint Many-Task Model: Growing a Neural Network for Multiple NLP Tasks" (2017), eq. 4 and
    section 3. θ is all that is shared, with the heads that are read with their gradient; θ' is what it was when the
    phase of `Successive` began: after the task before, or for the first task after the last epoch. The gradient is
    added once an optimizer step, before clipping, to weights that have a gradient in it. In the paper θ is of the tasks
    below alone, and a task's own layer is free, though tasks above it share it.

    Args:
        strength: δ.

    Raises:
        ValueError: It is negative or not finite.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < inf:
            raise ConfigurationError(f"{KEY}.strength", "must be finite and not negative", strength)
        self.strength = strength
        self._phase: list[Any] | None = None  # epoch and task
        self._before: dict[str, Tensor] = {}
        self._module: MultiTaskModule

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse tasks that are trained together.

        Raises:
            ValueError: The sampling has no phases.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        if stage == "fit" and not isinstance(data.sampling, Successive):
            raise ConfigurationError(KEY, "needs data.sampling Successive", type(data.sampling).__name__)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the penalties; a resumed run has the weights of its phase's start from its checkpoint.

        Raises:
            ValueError: The checkpoint to go on from does not hold them.
        """
        assert isinstance(pl_module, MultiTaskModule)
        if trainer.ckpt_path and self._phase is None:
            raise ConfigurationError(KEY, "must be there from a run's start", "none in the checkpoint")
        self._module = pl_module
        self._before = {name: weight.to(pl_module.device) for name, weight in self._before.items()}
        pl_module.penalties.add("successive", self)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MultiTaskBatch, batch_idx: int
    ) -> None:
        """Keep the weights where a phase begins, alike on all ranks."""
        phase = [trainer.current_epoch, *(task for task, count in batch.counts.items() if count)]
        if phase != self._phase:
            self._phase = phase
            self._before = {name: weight.detach().clone() for name, weight in self._named().items()}

    def _named(self) -> dict[str, nn.Parameter]:
        return dict(self._module.network.named_parameters())

    def _pairs(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """What is shared, and what it was."""
        names = {id(parameter): name for name, parameter in self._named().items()}
        for parameter in self._module.network.shared_parameters():
            yield parameter, self._before[names[id(parameter)]]

    def follow_split(self, stage: int, groups: Groups, came_from: Mapping[str, str]) -> None:
        """Hold a new branch near what the one that it was part of was; see `app.training.splits`."""
        for new in self._before.keys() & came_from.keys():
            self._before[new] = self._before[came_from[new]].clone()

    def terms(self) -> Iterator[Term]:
        """2δ(θ − θ')."""
        return ((parameter, parameter - before, 2 * self.strength) for parameter, before in self._pairs())

    def value(self) -> float:
        """δ‖θ − θ'‖²."""
        return self.strength * sum((parameter - before).square().sum().item() for parameter, before in self._pairs())

    def state_dict(self) -> dict[str, Any]:
        """The phase under way, and the weights that it began with."""
        return {"phase": self._phase, "before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the phase."""
        self._phase, self._before = state_dict["phase"], state_dict["before"]
