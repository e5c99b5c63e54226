"""A backbone for each task."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.backbones import Backbone
from models.sharing.base import Sharing, take


class IndependentNetworks(Sharing):
    """Every task has a backbone of its own, which sees its rows alone: all single-task baselines in one run.

    With the task as input it would be the multiplicative gating of Stanford's CS330 (lecture "Multi-Task Learning").
    """

    def __init__(self, backbone: Callable[[], Backbone], tasks: list[str]) -> None:
        """Build the backbones.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
        """
        super().__init__()
        self.networks = nn.ModuleDict({_key(task): backbone() for task in tasks})
        self.channels = {task: self._network(task).channels for task in tasks}

    def forward(self, inputs: Tensor, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        return {task: self._network(task)(take(inputs, chosen)) for task, chosen in rows.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters of the task's backbone."""
        return list(self._network(task).parameters())

    def _network(self, task: str) -> Backbone:
        network = self.networks[_key(task)]
        assert isinstance(network, Backbone)
        return network


def _key(task: str) -> str:
    """A module name that is no attribute's and has no dot. The task is in it: a reordered config finds its weights."""
    return "task_" + task.replace("%", "%25").replace(".", "%2E")
