"""Runs a schedule: what is trained now, and at which rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from app.network.layers import Layers
from app.transfer.freezing import set_modes, set_trainable
from app.transfer.progress import Progress


class FineTuning:
    """The layers of a network under a schedule.

    What is trained follows from the schedule and its progress alone, so a resumed run finds it anew.

    Args:
        layers: Layer → its parameters, from input to output.
        networks: The modules that they belong to.
        factors: Layer → factor of its learning rate, whatever the phase.
        progress: The schedule, and where the run is in it.

    Attributes:
        rates: Layer → factor of its learning rate now, 0 where it is frozen.
    """

    def __init__(
        self, layers: Layers, networks: Iterable[nn.Module], factors: Mapping[str, float], progress: Progress
    ) -> None:
        self.layers, self.networks, self.factors, self.progress = layers, list(networks), factors, progress
        self.rates: dict[str, float] = {}
        self._best: dict[str, Any] = {}  # weights and optimizer, where they were the best of the phase

    def begin(self) -> None:
        """Freeze and thaw as the phase says."""
        phase = self.progress.phase
        trained = phase.trained(list(self.layers))
        set_trainable(self.layers, trained)
        self.set_modes()
        self.rates = {
            layer: factor * phase.rate(layer) if layer in trained else 0.0 for layer, factor in self.factors.items()
        }

    def set_modes(self) -> None:
        """Put what is frozen among the networks, all in training mode, into evaluation mode."""
        phase = self.progress.phase
        for network in self.networks:
            set_modes(network, self.layers, phase.trained(list(self.layers)), phase.batch_norm)

    def advance(self, step: int, epoch: int, module: nn.Module, optimizer: Optimizer) -> bool:
        """Begin the next phase, if this one has ended before optimizer step `step` of `epoch`; whether it has."""
        ended = self.progress.ended(step, epoch)
        while self.progress.ended(step, epoch):
            self._restore(module, optimizer)
            self.progress.advance(step)
        if ended:
            self.begin()
        return ended

    def observe(self, value: float, module: nn.Module, optimizer: Optimizer) -> None:
        """Take a validation's value; keep weights and optimizer, if it is the phase's best and they will be wanted."""
        if self.progress.observe(value) and self.progress.phase.restore_best:
            self._best = {"weights": _copy(module.state_dict()), "optimizer": _copy(optimizer.state_dict()["state"])}

    def _restore(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Go back to the best of the phase; rates are the scheduler's, and go on."""
        if self._best:
            module.load_state_dict(self._best["weights"])
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": _copy(self._best["optimizer"]), "param_groups": groups})
        self._best = {}

    def __str__(self) -> str:
        progress, trained = self.progress, self.trained
        name = f" {progress.phase.name!r}" if progress.phase.name else ""
        layers = ", ".join(layer for layer, parameters in trained.items() if parameters)
        return (
            f"phase {progress.number + 1} of {len(progress.phases)}{name} trains {sum(trained.values()):,} parameters: "
            f"{layers}"
        )

    @property
    def trained(self) -> dict[str, int]:
        """Layer → number of its parameters that are trained now."""
        return {name: sum(p.numel() for p in ps if p.requires_grad) for name, ps in self.layers.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"progress": self.progress.state_dict(), "best": self._best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.progress.load_state_dict(state["progress"])
        self._best = state["best"]


def _copy(state: Any) -> Any:
    """A copy of nested dicts of tensors, on the CPU."""
    if isinstance(state, Tensor):
        return torch.empty_like(state, device="cpu").copy_(state.detach())
    return {key: _copy(value) for key, value in state.items()} if isinstance(state, dict) else state
