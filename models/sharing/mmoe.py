"""Experts that all tasks share, and a gate for each task."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.backbones import BackboneBuilder
from models.backbones.base import Inputs
from models.by_name import ModulesByName
from models.sharing.base import Sharing
from models.sharing.experts import ExpertBuilder, Experts, Gate, Mixture, features_of, gate_input, pooled
from models.sharing.rows import RowsOf, take


class MMoE(Sharing):
    """Multi-gate mixture of experts: task t reads Σ_i softmax(W_t x)_i f_i(x) of E experts f_i.

    Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts" (2018), eq. 4–6.
    x is what is below the experts: the flattened input, or the pooled feature of the stage below them. Every expert
    sees all rows of the batch once. With `one_gate` all tasks read one mixture, the paper's OMoE. A single expert is
    hard sharing.
    """

    passes_on_features = True

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        experts: int = 4,
        from_stage: int = 0,
        hidden: Sequence[int] | None = None,
        one_gate: bool = False,
    ) -> None:
        """Build the experts and the gates.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            experts: E.
            from_stage: an expert is a backbone's stages from this one on; those below are shared.
            hidden: experts are stacks of linear layers of these widths on a whole backbone instead.
            one_gate: one gate for all tasks, in place of one each.

        Raises:
            ValueError: there is no expert, or no such stage.
        """
        super().__init__()
        build = ExpertBuilder(backbone, from_stage, hidden)
        self.below = build.below
        self.experts = Experts(build, experts, "model.sharing.experts")
        self.gate = Gate(build.gate_width, experts) if one_gate else None
        self.gates = ModulesByName[Gate]({} if one_gate else {t: Gate(build.gate_width, experts) for t in tasks})
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

    def shared_parameters(self) -> list[nn.Parameter]:
        """All but the tasks' gates."""
        own = {id(parameter) for parameter in self.gates.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's gate, if it has one."""
        return [] if self.gate is not None else list(self.gates[task].parameters())
