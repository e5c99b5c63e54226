"""A backbone for each task, whose activations are mixed after every stage."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from models.backbones import Backbone, BackboneBuilder
from models.backbones.base import Inputs, last_trained_matrix
from models.backbones.part import stages_with_parameters
from models.bounds import check_probability
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.learned import Learned
from models.sharing.base import Sharing
from models.sharing.own import Numbers, along_channels
from models.sharing.rows import RowsOf, size_of
from models.sharing.statistics import statistics_of

Call = Callable[[Tensor], Tensor]


class CrossStitch(Sharing):
    """Every task has a backbone; after each stage that has parameters, x̃_t = Σ_s α_ts x_s over the tasks s.

    Misra et al., "Cross-stitch Networks for Multi-task Learning" (2016), eq. 1. All backbones see all rows of the batch
    and every loss reaches them, so they are shared; so is every α, but for a task's α of the last unit. The paper
    starts from trained single-task networks and gives α a rate that is 10² to 10³ times the network's, under SGD.
    LibMTL starts α at ones.
    """

    walks_stages = True

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        same: float = 0.9,
        by_channel: bool = False,
        rate: float = 1.0,
    ) -> None:
        """Build the backbones and the units.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            same: α_tt at the start; the others share what is left to one evenly.
            by_channel: an α for each channel, in place of one for all.
            rate: factor of α's learning rate.

        Raises:
            ValueError: `same` is no part of one, or the rate is not positive.
        """
        super().__init__()
        check_probability("model.sharing.same", same)
        if rate <= 0:
            raise ConfigurationError("model.sharing.rate", "must be greater than 0", rate)
        self.tasks, self.mixing_rate = tasks, rate
        self.networks = ModulesByName[Backbone]({task: backbone() for task in tasks})
        first = self.networks[tasks[0]]
        places = stages_with_parameters(first, backbone.input_shape)
        self.units = nn.ModuleDict(
            {str(stage): Stitch(tasks, first.channels[stage] if by_channel else 1, same) for stage in places}
        )
        self.last = str(places[-1])
        self.channels = {task: network.channels for task, network in self.networks.items()}

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        calls = {task: network.stage_calls() for task, network in self.networks.items()}
        x: dict[str, Tensor] = dict.fromkeys(self.tasks, inputs)  # type: ignore[arg-type]  # what the first stage reads
        features: dict[str, list[Tensor]] = {task: [] for task in rows}
        with statistics_of(size_of(inputs), self.training):
            for stage, number in enumerate(map(str, range(len(self.channels[self.tasks[0]])))):
                x = {task: calls[task][stage](each) for task, each in x.items()}
                if number in self.units:
                    x = self.units[number](x, list(rows) if number == self.last else self.tasks)
                for task, own in features.items():
                    own.append(x[task])
        return {task: RowsOf(own, rows[task]) for task, own in features.items()}

    def compared_weights(self) -> list[nn.Parameter]:
        """The last matrix of every backbone."""
        return [each for network in self.networks.values() for each in last_trained_matrix(network.parameters())]

    def mixing_weights(self) -> dict[str, list[nn.Parameter]]:
        """All α."""
        return {"alpha": list(self.units.parameters())}

    def learned(self) -> dict[str, Learned]:
        """α of each unit, the mean over channels."""
        return {
            f"alpha/{number}": Learned(unit.matrix(), self.tasks, self.tasks)
            for number, unit in self.units.items()
            if isinstance(unit, Stitch)
        }

    def shared_parameters(self) -> list[nn.Parameter]:
        """The backbones, and the units but for the last."""
        below = [unit for number, unit in self.units.items() if number != self.last]
        return [parameter for module in (self.networks, *below) for parameter in module.parameters()]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's α of the last unit."""
        last = self.units[self.last]
        assert isinstance(last, Stitch)
        return list(last.alpha[task].parameters())


class Stitch(nn.Module):
    """Mixes the activations of several tasks.

    Args:
        tasks: their names.
        channels: of an activation that has an α each; 1 for one of all.
        same: α of a task's own activation at the start.
    """

    def __init__(self, tasks: list[str], channels: int, same: float) -> None:
        super().__init__()
        self.tasks = tasks
        other = (1 - same) / max(1, len(tasks) - 1)
        starts = {task: torch.full((len(tasks), channels), other) for task in tasks}
        for number, task in enumerate(tasks):
            starts[task][number] = same if len(tasks) > 1 else 1.0
        self.alpha = ModulesByName[Numbers]({task: Numbers(start) for task, start in starts.items()})

    def forward(self, x: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        """The mixtures [B, ...] that are wanted, of all tasks' activations [B, ...]."""
        return {
            task: sum_of([along_channels(a, x[other]) * x[other] for a, other in zip(alpha, self.tasks, strict=True)])
            for task, alpha in ((task, self.alpha[task].values) for task in wanted)
        }

    def matrix(self) -> Tensor:
        """α_ts, [T, T], the means over channels."""
        return torch.stack([self.alpha[task].values.mean(dim=1) for task in self.tasks])


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Their sum; there is one at least."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
