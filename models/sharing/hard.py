"""One backbone for all tasks."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.backbones.base import Inputs
from models.sharing.base import Sharing
from models.sharing.rows import RowsOf, gather, size_of
from models.sharing.statistics import StatisticsByTask, statistics_of


class HardSharing(Sharing):
    """All tasks read the features of one backbone, which sees the batch once.

    Caruana, "Multitask Learning: A Knowledge-Based Source of Inductive Bias" (1993).
    """

    passes_on_features = True

    def __init__(
        self, backbone: Callable[[], Backbone], tasks: list[str], statistics: Literal["batch", "task"] = "batch"
    ) -> None:
        """Build the backbone.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            statistics: whose rows batch normalisation normalises together while it trains: all of the batch, or each
                task's alone, for tasks with data of their own. Then no task's loss depends on another's rows, and
                the exact gradients of all tasks cost little more than that of their sum. Running statistics see one
                task after the other.
        """
        super().__init__()
        self.backbone = backbone()
        self.tasks, self.statistics = tasks, statistics
        self.channels = dict.fromkeys(tasks, self.backbone.channels)

    def shared_features(self, inputs: Inputs, rows: dict[str, Tensor]) -> list[Tensor]:
        """The backbone's features, one a stage, of the batch's rows or of those of `rows_in_trunk`."""
        features: list[Tensor]
        if self.statistics == "batch" or not self.training:
            with statistics_of(size_of(inputs), self.training):
                features = self.backbone(inputs)
            return features
        own = self.rows_in_trunk(rows)
        gathered = gather(inputs, torch.cat([rows[task] for task in own]))
        with StatisticsByTask([len(chosen) for chosen in own.values()]):
            features = self.backbone(gathered)
        return features

    def task_features(self, shared: list[Tensor], rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage."""
        own = self.rows_in_trunk(rows)
        return {task: RowsOf(shared, own[task]) for task in rows}

    def compared_weights(self) -> list[nn.Parameter]:
        """Those of the backbone's last layer."""
        return self.backbone.compared_weights()

    def rows_in_trunk(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → the rows of the backbone's activations that are its own, [B_t].

        With statistics by task, those are consecutive in the order of the tasks, and a row of two tasks is there twice.
        """
        if self.statistics == "batch" or not self.training:
            return rows
        present = [task for task in self.tasks if task in rows]
        everyone = torch.arange(sum(map(len, rows.values())), device=rows[present[0]].device)
        return dict(zip(present, torch.split(everyone, [len(rows[task]) for task in present]), strict=True))

    def shared_parameters(self) -> list[nn.Parameter]:
        """All parameters, with one task too."""
        return list(self.backbone.parameters())

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """None."""
        return []
