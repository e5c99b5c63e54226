"""One backbone, in which every task has normalisations of its own."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbones import Backbone
from models.backbones.base import Inputs
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.base import Sharing
from models.sharing.copies import Copy
from models.sharing.rows import take_inputs
from models.sharing.statistics import statistics_of

NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.RMSNorm)


class TaskNormalization(Sharing):
    """One backbone, whose normalisations every task has for itself: statistics, scales and shifts.

    Bilen & Vedaldi, "Universal Representations: The Missing Link between Faces, Text, Planktons, and Cat Breeds",
    2017. All other weights are shared. It mends batch normalisation for tasks with data of their own, whose inputs
    differ. A row is computed once for each task that it is for: single-input data cost as many passes as there are
    tasks.
    """

    def __init__(self, backbone: Callable[[], Backbone], tasks: list[str]) -> None:
        """Build the backbone, and copy its normalisations.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.

        Raises:
            ValueError: the backbone does not normalise.
        """
        super().__init__()
        self.backbone, self.tasks = backbone(), tasks
        for name, module in list(self.backbone.named_modules()):
            if isinstance(module, NORMS):
                parent, _, own = name.rpartition(".")
                setattr(self.backbone.get_submodule(parent), own, OwnNorms(module, tasks))
        if not self._norms():
            raise ConfigurationError(
                "model.sharing", "TaskNormalization needs a backbone that normalises", type(self.backbone).__name__
            )
        self.channels = dict.fromkeys(tasks, self.backbone.channels)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        features: dict[str, list[Tensor]] = {}
        for task, chosen in rows.items():
            for norms in self._norms():
                norms.task = task
            with statistics_of(chosen.shape[0], self.training):
                features[task] = self.backbone(take_inputs(inputs, chosen))
        return features

    def compared_weights(self) -> list[nn.Parameter]:
        """Those of the backbone's last layer."""
        return self.backbone.compared_weights()

    def copies(self) -> list[Copy]:
        """The backbone without normalisations, and each task's normalisations under the backbone's names for them."""
        (whole,) = super().copies()
        found = {task: Copy("backbone", task, {}, {}) for task in self.tasks}
        for path, norms in self.backbone.named_modules():
            for task, norm in norms.each.items() if isinstance(norms, OwnNorms) else ():
                for name, x in norm.state_dict().items():
                    found[task].tensors[f"{path}.{name}"] = x
                    found[task].held[f"{path}.{name}"] = [f"backbone.{path}.each.{task}.{name}"]
        own = {name for copy in found.values() for (name,) in copy.held.values()}
        shared = {name: x for name, x in whole.tensors.items() if whole.held[name][0] not in own}
        return [Copy(whole.path, None, shared, {name: whole.held[name] for name in shared}), *found.values()]

    def shared_parameters(self) -> list[nn.Parameter]:
        """All but those of normalisations."""
        own = {id(parameter) for norms in self._norms() for parameter in norms.parameters()}
        return [parameter for parameter in self.backbone.parameters() if id(parameter) not in own]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """Those of the task's normalisations."""
        return [parameter for norms in self._norms() for parameter in norms.each[task].parameters()]

    def _norms(self) -> list["OwnNorms"]:
        return [module for module in self.backbone.modules() if isinstance(module, OwnNorms)]


class OwnNorms(nn.Module):
    """A normalisation for each task.

    Args:
        norm: what all of them begin as.
        tasks: names of the tasks.

    Attributes:
        task: whose rows come next.
    """

    def __init__(self, norm: nn.Module, tasks: list[str]) -> None:
        super().__init__()
        self.each, self.task = ModulesByName[nn.Module]({task: deepcopy(norm) for task in tasks}), tasks[0]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows of the task, [B, ...]."""
        normalised: Tensor = self.each[self.task](x)
        return normalised
