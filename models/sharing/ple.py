"""Levels of shared and own experts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from models.backbones import Backbone, BackboneBuilder
from models.backbones.base import Inputs
from models.backbones.part import check_stage
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.learned import Gates
from models.sharing.base import Sharing
from models.sharing.cgc import names_of
from models.sharing.experts import Experts, Gate, Mixture, flat_size, gate_input, pooled
from models.sharing.rows import RowsOf, take_inputs

SHARED = ""  # the path that is no task's


class PLE(Sharing):
    """Progressive layered extraction: levels of experts, some shared and some of each task, mixed after every level.

    Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
    Recommendations" (2020), eq. 5–7. Task t's gate mixes its own and the shared experts into what its experts of the
    next level read; the shared gate mixes all experts into what the shared ones of the next level read. A gate reads
    what the experts of its path read: the flattened input, or the path's last feature, pooled. The last level has no
    shared gate, and there a task's own experts see its rows alone. In lower levels every expert sees all rows, and is
    shared: its output reaches other tasks. LibMTL's PLE has no shared gate. One level is `CGC`.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        shared: int = 1,
        own: int = 1,
        levels: Sequence[int] = (0,),
    ) -> None:
        """Build the levels.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            shared: number of shared experts of a level.
            own: number of experts of each task in a level.
            levels: the first stage of every level's experts, ascending, from 0 on; a level ends where the next begins.

        Raises:
            ValueError: there are no experts of a kind, or no such levels.
        """
        super().__init__()
        whole = backbone()
        if not levels or levels[0] != 0 or any(after <= before for before, after in pairwise(levels)):
            raise ConfigurationError("model.sharing.levels", "must begin with 0 and ascend", list(levels))
        for stage in levels[1:]:
            check_stage("model.sharing.levels", stage, whole)
        widths = [flat_size(backbone.input_shape), *(whole.channels[stage - 1] for stage in levels[1:])]
        reads = [gate_input, *[pooled] * (len(levels) - 1)]
        bounds = zip(zip(levels, [*levels[1:], None], strict=True), reads, widths, strict=True)
        self.levels = nn.ModuleList(
            Level(partial(backbone.part, first, last), tasks, shared, own, read, width, lower=last is not None)
            for (first, last), read, width in bounds
        )
        self.tasks, self.own, self.shared = tasks, own, shared
        self.channels = dict.fromkeys(tasks, whole.channels)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Mixtures of the experts' features of each task's rows; see `Sharing.forward`."""
        *lower, last = (level for level in self.levels if isinstance(level, Level))
        x: dict[str, Inputs] = dict.fromkeys([SHARED, *self.tasks], inputs)
        below: dict[str, list[Tensor]] = {task: [] for task in self.tasks}
        for level in lower:
            mixed = level(x)
            x = {path: features[-1] for path, features in mixed.items()}
            below = {task: [*own, *mixed[task]] for task, own in below.items()}
        return last.last(x, rows, below)

    def compared_weights(self) -> list[nn.Parameter]:
        """The last matrix of every shared expert of the last level."""
        last = self.levels[-1]
        assert isinstance(last, Level)
        return last.shared.compared_weights()

    def mixing_weights(self) -> dict[str, list[nn.Parameter]]:
        """The gates."""
        gates = [gate for gate in self.modules() if isinstance(gate, Gate)]
        return {"gates": [parameter for gate in gates for parameter in gate.parameters()]}

    def shown_gates(self) -> dict[str, Gates]:
        """Those of each level: of the tasks, and the one that mixes all experts for the next level's shared ones."""
        shown = {}
        for number, level in enumerate(level for level in self.levels if isinstance(level, Level)):
            shown[f"gates/{number}"] = Gates(dict(level.gates.items()), names_of(self.own, self.shared))
            if level.gate is not None:
                everyone = [f"{task} {each}" for task in self.tasks for each in range(self.own)]
                shared = [f"shared {each}" for each in range(self.shared)]
                shown[f"shared_gate/{number}"] = Gates({"shared": level.gate}, [*everyone, *shared])
        return shown

    def shared_parameters(self) -> list[nn.Parameter]:
        """All that reaches several tasks: lower levels, but for gates that feed the last, and its shared experts."""
        own = {id(parameter) for task in self.tasks for parameter in self.task_parameters(task)}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's experts and gate of the last level, and its gate of the level below."""
        levels = [level for level in self.levels if isinstance(level, Level)]
        gates = [level.gates[task] for level in levels[-2:]]
        return [*levels[-1].own[task].parameters(), *(parameter for gate in gates for parameter in gate.parameters())]


class Level(nn.Module):
    """The experts of one level, and the gates over them.

    Args:
        build: builds an expert.
        tasks: names of the tasks.
        shared: number of shared experts.
        own: number of experts of each task.
        read: gives what a gate reads, [B, width], of what the experts of its path read.
        width: numbers of a row in that.
        lower: whether another level follows, whose shared experts a gate of their own feeds.
    """

    def __init__(
        self,
        build: Callable[[], Backbone],
        tasks: list[str],
        shared: int,
        own: int,
        read: Callable[[Any], Tensor],
        width: int,
        lower: bool,
    ) -> None:
        super().__init__()
        self.read = read
        self.shared = Experts(build, shared, "model.sharing.shared")
        self.own = ModulesByName[Experts]({task: Experts(build, own, "model.sharing.own") for task in tasks})
        self.gates = ModulesByName[Gate]({task: Gate(width, own + shared) for task in tasks})
        self.gate = Gate(width, len(tasks) * own + shared) if lower else None

    def forward(self, x: Mapping[str, Inputs]) -> dict[str, list[Tensor]]:
        """What every path's experts give, mixed, of all rows; by path, one feature a stage."""
        assert self.gate is not None
        shared = self.shared(x[SHARED])
        own = {task: experts(x[task]) for task, experts in self.own.items()}
        mixed = {task: list(Mixture([], [*own[task], *shared], self.gates[task](self.read(x[task])))) for task in own}
        everyone = [*(each for experts in own.values() for each in experts), *shared]
        return {SHARED: list(Mixture([], everyone, self.gate(self.read(x[SHARED])))), **mixed}

    def last(
        self, x: Mapping[str, Inputs], rows: Mapping[str, Tensor], below: Mapping[str, Sequence[Tensor]]
    ) -> dict[str, Sequence[Tensor]]:
        """The mixtures of each task's rows, above the features of lower levels."""
        shared = self.shared(x[SHARED])
        features: dict[str, Sequence[Tensor]] = {}
        for task, chosen in rows.items():
            mine = take_inputs(x[task], chosen)
            experts = [*self.own[task](mine), *(RowsOf(each, chosen) for each in shared)]
            features[task] = Mixture(RowsOf(list(below[task]), chosen), experts, self.gates[task](self.read(mine)))
        return features
