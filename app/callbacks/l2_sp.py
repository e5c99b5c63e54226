"""Stay near the weights that training started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from app.training.module import MultiTaskModule
from app.training.penalties import Term
from models.errors import ConfigurationError
from models.sharing.branching import Groups


class L2SP(Callback):
    """Pulls weights toward where they started, alpha/2·‖w − w₀‖², and new ones toward zero, beta/2·‖w‖².

    Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks" (2018), eq. 4.
    What started somewhere is what `model.init_from` gave, heads included; without it, all that is below the heads. What
    `model.reset_layers` draws anew is new. The gradients of the two terms are added once an optimizer step, before
    clipping, to weights that have a gradient in it: neither what is frozen nor an absent task's head moves. It replaces
    the optimizer's weight decay, which pulls toward zero: set that to 0.

    Args:
        alpha: Strength of the pull toward the starting point.
        beta: Strength of the pull of new weights toward zero.

    Raises:
        ValueError: One of them is negative or not finite.
    """

    def __init__(self, alpha: float, beta: float = 0.0) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < inf:
                raise ConfigurationError(f"trainer.callbacks.L2SP.{name}", "must be finite and not negative", value)
        self.alpha, self.beta = alpha, beta
        self._start: dict[str, Tensor] | None = None
        self._parameters: dict[str, nn.Parameter] = {}
        self._pulled: list[tuple[nn.Parameter, Tensor]] = []
        self._new: list[nn.Parameter] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights of the starting point; a resumed run has them from its checkpoint.

        Raises:
            ValueError: The checkpoint to go on from does not hold them.
        """
        assert isinstance(pl_module, MultiTaskModule)
        if trainer.ckpt_path and self._start is None:
            raise ConfigurationError(
                "trainer.callbacks.L2SP", "must be there from a run's start", "none in the checkpoint"
            )
        parameters = dict(pl_module.network.named_parameters())
        start = {name: parameters[name].detach() for name in pl_module.start.given}
        start = start if self._start is None else self._start
        self._start = {name: weight.to(pl_module.device, copy=True) for name, weight in start.items()}
        self._parameters = parameters
        self._pull()
        pl_module.penalties.add("l2_sp", self)

    def _pull(self) -> None:
        """Pull at the parameters, as they have a starting point or not."""
        assert self._start is not None
        self._pulled = [(self._parameters[name], weight) for name, weight in self._start.items()]
        self._new = [p for name, p in self._parameters.items() if name not in self._start]

    def follow_split(self, stage: int, groups: Groups, came_from: Mapping[str, str]) -> None:
        """Pull a new branch to where the one that it was part of started; see `app.training.splits`."""
        assert self._start is not None
        for new in self._parameters.keys() & came_from.keys():
            self._start.pop(new, None)
            if came_from[new] in self._start:
                self._start[new] = self._start[came_from[new]].clone()
        self._pull()

    def terms(self) -> Iterator[Term]:
        """The gradients of both terms."""
        yield from ((parameter, parameter - start, self.alpha) for parameter, start in self._pulled)
        yield from ((parameter, parameter, self.beta) for parameter in (self._new if self.beta else []))

    def value(self) -> float:
        """The sum of both terms."""
        pulled = [self.alpha * (parameter - start).square().sum() for parameter, start in self._pulled]
        new = [self.beta * parameter.square().sum() for parameter in self._new]
        return sum(term.item() for term in [*pulled, *new]) / 2

    def state_dict(self) -> dict[str, Any]:
        """The starting point."""
        return {"start": self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the starting point of the run that is gone on with."""
        self._start = state_dict["start"]
