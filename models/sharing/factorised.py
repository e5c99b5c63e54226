"""Networks of all tasks whose weights are a product of shared factors and a vector of each task."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.backbones import Backbone, BackboneBuilder
from models.backbones.base import Inputs
from models.backbones.part import check_stage
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.base import Sharing
from models.sharing.copies import Copy
from models.sharing.experts import features_of
from models.sharing.factors import KEY, LAF, Product, RankChoice, TensorTrain, Tucker, along_tasks, check_ranks
from models.sharing.own import Numbers
from models.sharing.rows import RowsOf, take_inputs
from models.sharing.statistics import statistics_of

KINDS: dict[str, type[Product]] = {"tucker": Tucker, "tt": TensorTrain, "laf": LAF}


class TensorFactorisation(Sharing):
    """A network for each task, whose weights of a layer, stacked over the tasks, are a product of low rank.

    Yang & Hospedales, "Deep Multi-task Representation Learning: A Tensor Factorisation Approach" (2017). The stack
    [out, in, *kernel, T] of every weight with more than one dimension is a `tucker` product, a tensor train (`tt`) or,
    with all dimensions but T in one, a matrix product L S (`laf`). Its factors are shared; those along T are a vector
    of each task, its own, as are biases, normalisations and running statistics. Stages below the first such one are
    shared. At full rank any weights can be met, whatever the product.

    The factors are those of fresh networks, one a task, by HOSVD, TT-SVD or SVD. The paper also starts from trained
    ones, and chooses ranks by the error that they leave.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        kind: Literal["tucker", "tt", "laf"] = "tucker",
        from_stage: int = 0,
        ranks: dict[str, int | float | None] | None = None,
    ) -> None:
        """Build the networks, and factorise their weights.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            kind: which product.
            from_stage: the first stage of a task's own network; those below are shared.
            ranks: along `out`, `in` and `kernel`, the dimensions of a weight, and `tasks`: a number, a share of the
                dimension as 0.5, or null, as what is left out, for full rank. In a tensor train, the rank between that
                dimension and the next. `laf` has that of `tasks` alone.

        Raises:
            ConfigurationError: there is no such stage, it has no weight, or a rank is above the dimension.
        """
        super().__init__()
        self.ranks, self.kind = ranks or {}, kind
        check_ranks(self.ranks)
        if kind == "laf" and (others := sorted(self.ranks.keys() - {"tasks"})):
            raise ConfigurationError(KEY, "must be of tasks alone where the kind is laf", ", ".join(others))
        if from_stage:
            check_stage("model.sharing.from_stage", from_stage, backbone())
        self.below = backbone.part(0, from_stage) if from_stage else None
        self.parts = ModulesByName[Backbone]({task: backbone.part(from_stage) for task in tasks})
        first = self.parts[tasks[0]]
        self._groups = {coarse: first.layer_groups(coarse) for coarse in (False, True)}
        self.names = [name for name, parameter in first.named_parameters() if parameter.ndim > 1]
        if not self.names:
            raise ConfigurationError("model.sharing.from_stage", "must be one with weights at or above it", from_stage)
        weights = [[take_weight(part, name) for part in self.parts.values()] for name in self.names]
        self.products, self.vectors = self._factors_of(weights)
        below = self.below.channels if self.below else []
        self.channels = {task: [*below, *part.channels] for task, part in self.parts.items()}

    def _factors_of(self, weights: Sequence[Sequence[Tensor]]) -> tuple[nn.ModuleList, ModulesByName[nn.ModuleList]]:
        """The products nearest to weights, of each layer one a task, and each task's vectors."""
        products, vectors = [], []
        for name, own in zip(self.names, weights, strict=True):
            choice = RankChoice(self.ranks, name.removeprefix("whole."))
            shared, along = along_tasks(torch.stack(list(own), dim=-1).double(), choice)
            products.append(KINDS[self.kind](shared, choice).to(own[0].dtype))
            vectors.append(along.to(own[0].dtype))
        by_task = {t: nn.ModuleList(Numbers(each[i].clone()) for each in vectors) for i, t in enumerate(self.parts)}
        return nn.ModuleList(products), ModulesByName[nn.ModuleList](by_task)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        below = features_of(self.below, inputs, self.training) if self.below else []
        x = below[-1] if below else inputs
        features: dict[str, Sequence[Tensor]] = {}
        for task, own in rows.items():
            with statistics_of(own.shape[0], self.training):
                mine = functional_call(self.parts[task], self.weights(task), (take_inputs(x, own),))
            features[task] = RowsOf([*below, *mine], own)  # of what is the task's own, these are all rows
        return features

    def weights(self, task: str) -> dict[str, Tensor]:
        """The task's weights, by their names in its network."""
        vectors = (each.values for each in self.vectors[task])
        products = zip(self.names, self.products, vectors, strict=True)
        return {name: product(vector) for name, product, vector in products}

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """Names of the parameters by depth: factors and vectors are where the weights that they give are."""
        below = self.below.layer_groups(coarse) if self.below else {}
        groups = {f"backbone.{group}": [f"below.{name}" for name in names] for group, names in below.items()}
        for group, names in self._groups[coarse].items():
            groups.setdefault(f"backbone.{group}", []).extend(
                held for name in names for held in self._held(name, self.parts)
            )
        return groups

    def _held(self, name: str, tasks: Iterable[str]) -> Iterator[str]:
        """The names of the parameters that give a parameter of these tasks' networks."""
        if name not in self.names:
            yield from (f"parts.{task}.{name}" for task in tasks)
            return
        number = self.names.index(name)
        yield from (f"products.{number}.{own}" for own, _ in self.products[number].named_parameters())
        yield from (f"vectors.{task}.{number}.values" for task in tasks)

    @torch.no_grad()
    def copies(self) -> list[Copy]:
        """The stages below, and each task's network with the weights that the factors give."""
        found = super().copies()
        for copy in found:
            if copy.task is not None:
                for name, weight in self.weights(copy.task).items():
                    copy.tensors[name.removeprefix("whole.")] = weight.detach()
                    copy.held[name.removeprefix("whole.")] = [*self._held(name, [copy.task])]
        return found

    def follow(self, copies: Sequence[Copy]) -> None:
        """Begin with the factors of the copies' weights."""
        own = [copy.tensors for copy in copies if copy.task is not None]
        weights = [[tensors[name.removeprefix("whole.")].cpu() for tensors in own] for name in self.names]
        products, vectors = self._factors_of(weights)
        self.products.load_state_dict(products.state_dict())
        self.vectors.load_state_dict(vectors.state_dict())

    def compared_weights(self) -> list[nn.Parameter]:
        """The factors of the last weight."""
        return [parameter for parameter in self.products[-1].parameters() if parameter.requires_grad]

    def shared_parameters(self) -> list[nn.Parameter]:
        """The stages below, and the factors."""
        return [*(self.below.parameters() if self.below else []), *self.products.parameters()]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's vectors, biases and normalisations."""
        return [*self.vectors[task].parameters(), *self.parts[task].parameters()]


def take_weight(network: nn.Module, name: str) -> Tensor:
    """A parameter's values; from now on the network is to be called with them, or others."""
    module, _, own = name.rpartition(".")
    owner = network.get_submodule(module)
    values = owner.get_parameter(own).detach()
    owner.register_parameter(own, None)
    return values
