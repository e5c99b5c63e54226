"""Experts that all tasks share, and gates that mix them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from models.backbones.base import Inputs
from models.by_name import ModulesByName
from models.learned import Gates
from models.sharing.base import Sharing
from models.sharing.experts import ExpertBuilder, Experts, Mixture, features_of, gate_input, pooled
from models.sharing.rows import RowsOf, take


class GateFactory(Protocol):
    """Builds a gate, which gives weights [B, E] of rows [B, width]."""

    def __call__(self, width: int, experts: int) -> nn.Module:
        """Build one for rows of this width and so many experts."""


class MixtureOfExperts(Sharing):
    """Task t reads Σ_i w_t(x)_i f_i(x) of experts f_i, each of which sees all rows of the batch once.

    x is what is below the experts: the flattened input, or the pooled feature of the stage below them.

    Args:
        build: builds the experts, and what is below them.
        tasks: names of the tasks.
        experts: E.
        gate: builds a gate w_t.
        one_gate: one gate for all tasks, in place of one each.
    """

    passes_on_features = True

    def __init__(
        self, build: ExpertBuilder, tasks: list[str], experts: int, gate: GateFactory, one_gate: bool = False
    ) -> None:
        super().__init__()
        self.below = build.below
        self.experts = Experts(build, experts, "model.sharing.experts")
        own = partial(gate, build.gate_width, experts)
        self.gate = own() if one_gate else None
        self.gates = ModulesByName[nn.Module]({} if one_gate else {task: own() for task in tasks})
        below = self.below.channels if self.below else []
        self.channels = {task: [*below, *self.experts.channels] for task in tasks}

    def shared_features(self, inputs: Inputs, rows: dict[str, Tensor]) -> list[Tensor]:
        """What the gates read; the features below the experts; then those of each expert, or their one mixture."""
        below = features_of(self.below, inputs, self.training) if self.below else []
        x = below[-1] if below else inputs
        read = pooled(below[-1]) if below else gate_input(inputs)
        experts = self.experts(x)
        if self.gate is not None:
            return [read, *Mixture(below, experts, self.gate(read))]
        return [read, *below, *(feature for features in experts for feature in features)]

    def task_features(self, shared: list[Tensor], rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Mixtures of the experts' features of each task's rows."""
        read, *features = shared
        if self.gate is not None:
            return {task: RowsOf(features, own) for task, own in rows.items()}
        lower = len(self.below.channels) if self.below else 0
        below, above = features[:lower], features[lower:]
        stages = len(self.experts.channels)
        experts = [above[start : start + stages] for start in range(0, len(above), stages)]
        return {
            task: Mixture(RowsOf(below, own), [RowsOf(e, own) for e in experts], self.gates[task](take(read, own)))
            for task, own in rows.items()
        }

    def compared_weights(self) -> list[nn.Parameter]:
        """The last matrix of every expert."""
        return self.experts.compared_weights()

    def mixing_weights(self) -> dict[str, list[nn.Parameter]]:
        """The gates."""
        return {"gates": [*self.gates.parameters(), *(self.gate.parameters() if self.gate else [])]}

    def shown_gates(self) -> dict[str, Gates]:
        """Those of the tasks, or the one of all."""
        gates = {"all": self.gate} if self.gate is not None else dict(self.gates.items())
        return {"gates": Gates(gates, [f"expert {number}" for number in range(len(self.experts.each))])}

    def shared_parameters(self) -> list[nn.Parameter]:
        """All but the tasks' gates."""
        own = {id(parameter) for parameter in self.gates.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's gate, if it has one."""
        return [] if self.gate is not None else list(self.gates[task].parameters())
