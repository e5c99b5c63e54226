"""Experts that all tasks share beside some of each task's own."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.backbones import BackboneBuilder
from models.backbones.base import Inputs
from models.by_name import ModulesByName
from models.learned import Gates
from models.sharing.base import Sharing
from models.sharing.experts import ExpertBuilder, Experts, Gate, Mixture, features_of, gate_input, pooled
from models.sharing.rows import RowsOf, take, take_inputs


class CGC(Sharing):
    """Customised gate control: task t reads Σ_i softmax(W_t x)_i f_i(x) over its own experts and the shared ones.

    Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
    Recommendations" (2020), eq. 1–4. x is what is below the experts: the flattened input, or the pooled feature of the
    stage below them. The shared experts see all rows of the batch once; a task's own see its rows alone.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        shared: int = 1,
        own: int = 1,
        from_stage: int = 0,
        hidden: Sequence[int] | None = None,
    ) -> None:
        """Build the experts and the gates.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            shared: number of shared experts.
            own: number of experts of each task.
            from_stage: an expert is a backbone's stages from this one on; those below are shared.
            hidden: experts are stacks of linear layers of these widths on a whole backbone instead.

        Raises:
            ValueError: there are no experts of a kind, or no such stage.
        """
        super().__init__()
        build = ExpertBuilder(backbone, from_stage, hidden)
        self.below = build.below
        self.shared = Experts(build, shared, "model.sharing.shared")
        self.own = ModulesByName[Experts]({task: Experts(build, own, "model.sharing.own") for task in tasks})
        self.gates = ModulesByName[Gate]({task: Gate(build.gate_width, own + shared) for task in tasks})
        self.experts = names_of(own, shared)
        below = self.below.channels if self.below else []
        self.channels = {task: [*below, *self.shared.channels] for task in tasks}

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Mixtures of the experts' features of each task's rows; see `Sharing.forward`."""
        below = features_of(self.below, inputs, self.training) if self.below else []
        x = below[-1] if below else inputs
        read = pooled(below[-1]) if below else gate_input(inputs)
        shared = self.shared(x)
        return {
            task: Mixture(
                RowsOf(below, own),
                [*self.own[task](take_inputs(x, own)), *(RowsOf(features, own) for features in shared)],
                self.gates[task](take(read, own)),
            )
            for task, own in rows.items()
        }

    def compared_weights(self) -> list[nn.Parameter]:
        """The last matrix of every shared expert."""
        return self.shared.compared_weights()

    def mixing_weights(self) -> dict[str, list[nn.Parameter]]:
        """The gates."""
        return {"gates": list(self.gates.parameters())}

    def shown_gates(self) -> dict[str, Gates]:
        """Those of the tasks."""
        return {"gates": Gates(dict(self.gates.items()), self.experts)}

    def shared_parameters(self) -> list[nn.Parameter]:
        """The shared experts, and what is below the experts."""
        return [*(self.below.parameters() if self.below else []), *self.shared.parameters()]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's experts and its gate."""
        return [*self.own[task].parameters(), *self.gates[task].parameters()]


def names_of(own: int, shared: int) -> list[str]:
    """Of the experts that a task's gate mixes, in their order: its own, then those of all."""
    return [f"{whose} {number}" for whose, count in (("own", own), ("shared", shared)) for number in range(count)]
