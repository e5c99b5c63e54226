"""One backbone for all tasks."""

from collections.abc import Callable, Sequence
from typing import overload

from torch import Tensor, nn

from models.backbones import Backbone
from models.sharing.base import Inputs, Sharing, take


class HardSharing(Sharing):
    """All tasks read the features of one backbone, which sees the batch once.

    Caruana, "Multitask Learning: A Knowledge-Based Source of Inductive Bias" (1993).
    """

    def __init__(self, backbone: Callable[[], Backbone], tasks: list[str]) -> None:
        """Build the backbone.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
        """
        super().__init__()
        self.backbone = backbone()
        self.channels = dict.fromkeys(tasks, self.backbone.channels)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        features = self.shared_features(self.backbone(inputs))
        return {task: RowsOf(features, chosen) for task, chosen in rows.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """All parameters, with one task too."""
        return list(self.backbone.parameters())

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """None."""
        return []


class RowsOf(Sequence[Tensor]):
    """Some rows of every feature, gathered only where a feature is read: a head reads one or few of the stages."""

    def __init__(self, features: list[Tensor], rows: Tensor) -> None:
        """Keep features [B, ...] and the rows [B_t] to take of them."""
        self.features = features
        self.rows = rows

    def __len__(self) -> int:
        """Number of stages."""
        return len(self.features)

    @overload
    def __getitem__(self, stage: int) -> Tensor: ...

    @overload
    def __getitem__(self, stage: slice) -> list[Tensor]: ...

    def __getitem__(self, stage: int | slice) -> Tensor | list[Tensor]:
        """The rows of a stage's feature, [B_t, ...]."""
        if isinstance(stage, slice):
            return [take(feature, self.rows) for feature in self.features[stage]]
        return take(self.features[stage], self.rows)
