"""One backbone, to whose linear layers every task adds a term of low rank."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.backbones.base import Inputs
from models.bounds import check_sizes
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.base import Sharing
from models.sharing.rows import take_inputs
from models.sharing.statistics import statistics_of


class LowRankAdapters(Sharing):
    """One backbone; task t's linear layers give Wx + b + (B_t A_t + B A) x, with A of `rank` rows.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2022), eq. 3 with α = r; Agiza et al., "MTLoRA"
    (2024), for several tasks. All linear layers have adapters, those of attention among them; B begins with zeros: with
    hard sharing. The backbone's parameters keep their names. A row is computed once for each task that it is for:
    single-input data cost as many passes as there are tasks. `schedule: linear_probe` trains adapters and heads alone.
    """

    def __init__(self, backbone: Callable[[], Backbone], tasks: list[str], rank: int = 4, shared: bool = True) -> None:
        """Build the backbone, and adapters for its linear layers.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            rank: of an adapter.
            shared: whether there is an adapter B A of all tasks, too.

        Raises:
            ValueError: the backbone has no linear layer, or the rank is above a layer's size.
        """
        super().__init__()
        check_sizes("model.sharing.rank", [rank])
        self.backbone, self.tasks, self.task = backbone(), tasks, tasks[0]
        layers = [module for module in self.backbone.modules() if isinstance(module, nn.Linear)]
        if not layers:
            found = type(self.backbone).__name__
            raise ConfigurationError("model.sharing", "LowRankAdapters needs a backbone with linear layers", found)
        if rank > (most := min(min(layer.weight.shape) for layer in layers)):
            raise ConfigurationError("model.sharing.rank", f"must be at most {most}, the size of a layer", rank)
        self.own = ModulesByName[nn.ModuleList](
            {task: nn.ModuleList(LowRank(layer, rank) for layer in layers) for task in tasks}
        )
        self.shared = nn.ModuleList(LowRank(layer, rank) for layer in layers if shared)
        for number, layer in enumerate(layers):
            layer.register_forward_hook(partial(self._adapted, number))
        self.channels = dict.fromkeys(tasks, self.backbone.channels)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        features: dict[str, list[Tensor]] = {}
        for self.task, own in rows.items():
            with statistics_of(own.shape[0], self.training):
                features[self.task] = self.backbone(take_inputs(inputs, own))
        return features

    def _adapted(self, number: int, layer: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
        """What a linear layer gives of rows of the present task."""
        (x,) = given
        terms = [adapters[number](x) for adapters in (self.own[self.task], self.shared) if len(adapters)]
        return torch.stack([output, *terms]).sum(dim=0)

    def compared_weights(self) -> list[nn.Parameter]:
        """Those of the backbone's last layer."""
        return self.backbone.compared_weights()

    def shared_parameters(self) -> list[nn.Parameter]:
        """The backbone and the shared adapters."""
        return [*self.backbone.parameters(), *self.shared.parameters()]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The task's adapters."""
        return list(self.own[task].parameters())


class LowRank(nn.Module):
    """The term B A x beside a linear layer.

    Args:
        layer: it.
        rank: rows of A.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Of activations [..., in], the term [..., out]."""
        term: Tensor = self.up(self.down(x))
        return term
