"""A backbone for each task."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.backbones import Backbone
from models.backbones.base import Inputs
from models.by_name import ModulesByName
from models.sharing.base import Sharing
from models.sharing.rows import take_inputs
from models.sharing.statistics import statistics_of


class IndependentNetworks(Sharing):
    """Every task has a backbone of its own, which sees its rows alone: all single-task baselines in one run."""

    def __init__(self, backbone: Callable[[], Backbone], tasks: list[str]) -> None:
        """Build the backbones.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
        """
        super().__init__()
        self.networks = ModulesByName[Backbone]({task: backbone() for task in tasks})
        self.channels = {task: network.channels for task, network in self.networks.items()}

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        features = {}
        for task, chosen in rows.items():
            with statistics_of(chosen.shape[0], self.training):
                features[task] = self.networks[task](take_inputs(inputs, chosen))
        return features

    def shared_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters of the task's backbone."""
        return list(self.networks[task].parameters())
