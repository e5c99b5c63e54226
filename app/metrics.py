"""Losses and metrics of one stage (train, val or test), over an epoch and over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from app.tasks import Task
from models.by_name import ModulesByName


class MeanLosses(Metric):
    """Mean loss of each task over the labelled rows of an epoch.

    Args:
        tasks: Number of tasks T.
    """

    total: Tensor
    rows: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(tasks, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(tasks, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sums: Tensor, rows: Tensor) -> None:
        """Add each task's sum of losses over its rows, both [T]."""
        self.total += sums
        self.rows += rows

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean losses [T], and how many rows each is of, [T]."""
        return self.total / self.rows, self.rows


class StageMetrics(nn.Module):
    """Everything that one stage measures, by the name of its curve: `<quantity>/<stage>/<task>`.

    Args:
        stage: "train", "val" or "test".
        tasks: Name → task.
    """

    def __init__(self, stage: str, tasks: ModulesByName[Task]) -> None:
        super().__init__()
        self.stage, self.names = stage, list(tasks)
        self.weights = {name: task.config.weight for name, task in tasks.items() if not task.config.auxiliary}
        self.losses = MeanLosses(len(tasks))
        self.collections = ModulesByName[MetricCollection](
            {name: MetricCollection(dict(task.metrics())) for name, task in tasks.items()}
        )

    def update(self, sums: Tensor, rows: Tensor, predictions: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add one batch.

        Args:
            sums: [T] sum of each task's losses.
            rows: [T] rows in that sum.
            predictions: task → predictions and labels, as its metrics want them.
        """
        self.losses.update(sums, rows)
        for name, (predicted, labels) in predictions.items():
            self.collections[name].update(predicted, labels)

    def compute(self) -> dict[str, Tensor]:
        """All values of the epoch over all ranks; then start anew. Collective; a task without rows has no values.

        `loss/<stage>/total` is the weighted sum of the tasks' losses, auxiliary tasks left out.
        """
        measured = zip(self.names, *self.losses.compute(), strict=True)
        losses = {name: loss for name, loss, rows in measured if rows}  # a NaN of a run gone wrong is to be seen
        values = {f"loss/{self.stage}/{name}": loss for name, loss in losses.items()}
        main = [weight * losses[name] for name, weight in self.weights.items() if name in losses]
        values[f"loss/{self.stage}/total"] = torch.stack(main).sum() if main else torch.tensor(torch.nan)
        for name in losses:
            for quantity, value in self.collections[name].compute().items():
                values[f"{quantity}/{self.stage}/{name}"] = value
        self.reset()
        return values

    def check_gatherable(self) -> None:
        """Refuse metrics that several processes cannot gather from one of them that has no rows.

        Raises:
            ValueError: A metric keeps every prediction in a list.
        """
        for name, collection in self.collections.items():
            for quantity, metric in collection.items():
                if any(isinstance(default, list) for default in metric._defaults.values()):
                    raise ValueError(
                        f"model.tasks.{name}.metrics.{quantity}: must not keep every prediction when there are several "
                        f"processes, found {type(metric).__name__}; curves keep counts where `thresholds` is given"
                    )

    def reset(self) -> None:
        """Forget the epoch so far."""
        self.losses.reset()
        for collection in self.collections.values():
            collection.reset()

    def higher_is_better(self) -> dict[str, bool]:
        """The name of every curve of the stage, and what its metric says of its direction."""
        better = {f"loss/{self.stage}/{name}": False for name in [*self.names, "total"]}
        for name, collection in self.collections.items():
            for quantity, metric in collection.items():
                better[f"{quantity}/{self.stage}/{name}"] = bool(metric.higher_is_better)
        return better
