"""A backbone for each task, of whose activations subspaces are mixed after every stage."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from models.backbones import Backbone, BackboneBuilder
from models.backbones.base import Inputs, last_trained_matrix
from models.backbones.part import stage_parameters
from models.bounds import check_probability, check_sizes
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.learned import Learned
from models.sharing.base import Sharing
from models.sharing.cross_stitch import sum_of
from models.sharing.experts import pooled
from models.sharing.own import Numbers
from models.sharing.rows import RowsOf, size_of
from models.sharing.statistics import statistics_of


class Sluice(Sharing):
    """Every task has a backbone; after each stage with parameters its subspaces are mixed with those of all tasks.

    Ruder et al., "Latent Multi-task Architecture Learning" (AAAI 2019), first called sluice networks. The channels of a
    stage's output are cut into S subspaces, and x̃_ts = Σ_{t's'} α_ts,t's' x_t's' (eq. 2). Task t's embedding is
    Σ_l β_tl P_tl(x̃_tl) over its K stages (eq. 4). The penalty λ Σ_{t,l} Σ_{s<s'} ‖W_tlsᵀ W_tls'‖_F² keeps subspaces
    apart (eq. 3): W_tls are those columns (inputs × outputs) of the last weight of a stage that write subspace s.

    The paper does not state these: how α begins with several subspaces (here `same` for a subspace itself, and the rest
    evenly to the others; its code has 1/(TS) for all), how stages of unlike shape are mixed (here the means over places
    of all but the last, projected by a matrix of each task's own), and what is penalised of more than two subspaces
    (here all pairs). All backbones see all rows of the batch and every loss reaches them, so they are shared; so is α,
    but for a task's α of the last stage. Its β and projections are its own: heads must read the embedding.
    """

    walks_stages = True

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        subspaces: int = 2,
        same: float = 0.9,
        last: float = 0.9,
        strength: float = 0.01,
        rate: float = 1.0,
    ) -> None:
        """Build the backbones and what mixes them.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            subspaces: S.
            same: α of a subspace itself at the start; the others share what is left to one evenly.
            last: β of the last stage at the start; the others share what is left to one evenly.
            strength: λ.
            rate: factor of the learning rate of α and β.

        Raises:
            ValueError: S does not divide the channels of a stage, `same` or `last` is no part of one, λ is negative or
                not finite, or the rate is not positive.
        """
        super().__init__()
        check_sizes("model.sharing.subspaces", [subspaces])
        check_probability("model.sharing.same", same)
        check_probability("model.sharing.last", last)
        if not 0 <= strength < float("inf"):
            raise ConfigurationError("model.sharing.strength", "must be finite and not negative", strength)
        if rate <= 0:
            raise ConfigurationError("model.sharing.rate", "must be greater than 0", rate)
        self.tasks, self.subspaces, self.strength, self.mixing_rate = tasks, subspaces, strength, rate
        self.has_penalty = strength > 0 and subspaces > 1
        self.networks = ModulesByName[Backbone]({task: backbone() for task in tasks})
        first = self.networks[tasks[0]]
        used = {stage: own for stage, own in enumerate(stage_parameters(first, backbone.input_shape)) if own}
        _check_divided(subspaces, {stage: first.channels[stage] for stage in used})
        self.units = nn.ModuleDict({str(stage): Unit(tasks, subspaces, same) for stage in used})
        *self.lower, self.last = used
        widths = [*(first.channels[stage] for stage in self.lower), first.channels[-1]]
        self.outputs = ModulesByName[Output]({task: Output(widths, last) for task in tasks})
        self.channels = {task: network.channels for task, network in self.networks.items()}
        self._writing = _writing(first, used)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        calls = {task: network.stage_calls() for task, network in self.networks.items()}
        x: dict[str, Tensor] = dict.fromkeys(self.tasks, inputs)  # type: ignore[arg-type]  # what the first stage reads
        features: dict[str, list[Tensor]] = {task: [] for task in rows}
        with statistics_of(size_of(inputs), self.training):
            for stage in range(len(self.channels[self.tasks[0]])):
                x = {task: calls[task][stage](each) for task, each in x.items()}
                if str(stage) in self.units:
                    x = self.units[str(stage)](x, list(rows) if stage == self.last else self.tasks)
                for task, own in features.items():
                    own.append(x[task])
        return {task: self._with_output(task, own, rows[task]) for task, own in features.items()}

    def _with_output(self, task: str, features: list[Tensor], rows: Tensor) -> RowsOf:
        """A task's features, of which the last is mixed of all stages, of its rows [B_t] alone."""
        own = RowsOf(features, rows)
        embedding = self.outputs[task]([*(own[stage] for stage in self.lower), own[-1]])
        return RowsOf([*features[:-1], embedding], rows)  # what has as many rows as are wanted is taken as it is

    def penalty(self) -> Tensor:
        """λ times how much the subspaces have in common, a number."""
        weights = [network.get_parameter(name) for network in self.networks.values() for name in self._writing]
        return self.strength * torch.stack([common(weight, self.subspaces) for weight in weights]).sum()

    def compared_weights(self) -> list[nn.Parameter]:
        """The last matrix of every backbone."""
        return [each for network in self.networks.values() for each in last_trained_matrix(network.parameters())]

    def mixing_weights(self) -> dict[str, list[nn.Parameter]]:
        """All α, and all β."""
        betas = [parameter for output in self.outputs.values() for parameter in output.beta.parameters()]
        return {"alpha": list(self.units.parameters()), "beta": betas}

    def learned(self) -> dict[str, Learned]:
        """α of each unit, and each task's β of the stages."""
        parts = [f"{task} {number}" for task in self.tasks for number in range(self.subspaces)]
        alpha = {f"alpha/{stage}": Learned(unit.matrix(), parts, parts) for stage, unit in self._units().items()}
        beta = torch.stack([self.outputs[task].beta.values for task in self.tasks])
        return alpha | {"beta": Learned(beta, self.tasks, [f"stage {stage}" for stage in (*self.lower, self.last)])}

    def _units(self) -> dict[str, "Unit"]:
        return {stage: unit for stage, unit in self.units.items() if isinstance(unit, Unit)}

    def shared_parameters(self) -> list[nn.Parameter]:
        """The backbones, and the units but for the last."""
        below = [unit for stage, unit in self.units.items() if stage != str(self.last)]
        return [parameter for module in (self.networks, *below) for parameter in module.parameters()]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's α of the last unit, its β and its projections."""
        unit = self._units()[str(self.last)]
        return [*unit.alpha[task].parameters(), *self.outputs[task].parameters()]


class Unit(nn.Module):
    """Mixes subspaces of the activations of several tasks.

    Args:
        tasks: their names.
        subspaces: S.
        same: α of a subspace itself at the start.
    """

    def __init__(self, tasks: list[str], subspaces: int, same: float) -> None:
        super().__init__()
        self.subspaces = subspaces
        every = starting(len(tasks) * subspaces, same)
        starts = zip(tasks, torch.split(every, subspaces), strict=True)
        self.alpha = ModulesByName[Numbers]({task: Numbers(start.clone()) for task, start in starts})

    def forward(self, x: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        """The mixtures [B, ...] that are wanted, of the activations [B, ...] of all tasks in their order."""
        channels = 1 if next(iter(x.values())).ndim == 4 else -1
        parts = torch.stack([part for each in x.values() for part in each.chunk(self.subspaces, channels)])
        mixed = {task: torch.tensordot(self.alpha[task].values, parts, dims=1) for task in wanted}
        return {task: torch.cat(each.unbind(), channels) for task, each in mixed.items()}

    def matrix(self) -> Tensor:
        """α, [T·S, T·S]."""
        return torch.cat([numbers.values for numbers in self.alpha.values()])


class Output(nn.Module):
    """Mixes what a task's stages give into one embedding.

    Args:
        widths: channels of each of them; those of the last, which is not projected, are the embedding's.
        last: β of the last at the start.
    """

    def __init__(self, widths: Sequence[int], last: float) -> None:
        super().__init__()
        self.beta = Numbers(starting(len(widths), last)[-1].clone())
        self.projections = nn.ModuleList(nn.Linear(width, widths[-1], bias=False) for width in widths[:-1])

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        """The embedding [B, C] of features [B, ...]."""
        projected = [project(pooled(each)) for project, each in zip(self.projections, x[:-1], strict=True)]
        return sum_of([beta * each for beta, each in zip(self.beta.values, [*projected, x[-1]], strict=True)])


def starting(number: int, same: float) -> Tensor:
    """[number, number] weights of several things for each of them: `same` for itself, the rest evenly."""
    other = (1 - same) / max(1, number - 1)
    return torch.full((number, number), other).fill_diagonal_(same if number > 1 else 1.0)


def common(weight: Tensor, subspaces: int) -> Tensor:
    """Σ_{s<s'} ‖W_sᵀ W_s'‖_F² of the subspaces that a weight [channels, ...] writes, a number."""
    pairs = combinations(weight.flatten(1).chunk(subspaces), 2)
    return torch.stack([(w @ v.mT).square().sum() for w, v in pairs]).sum()


def _check_divided(subspaces: int, channels: Mapping[int, int]) -> None:
    """Refuse a number of subspaces that some stage cannot be cut into."""
    for stage, width in channels.items():
        if width % subspaces:
            rule = f"must divide the channels of every stage, of which stage {stage} has {width}"
            raise ConfigurationError("model.sharing.subspaces", rule, subspaces)


def _writing(backbone: Backbone, used: Mapping[int, Sequence[nn.Parameter]]) -> list[str]:
    """Name of the last weight that writes the channels of each stage that has one."""
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    found = [[p for p in own if p.ndim > 1 and p.shape[0] == backbone.channels[stage]] for stage, own in used.items()]
    return [names[id(weights[-1])] for weights in found if weights]
