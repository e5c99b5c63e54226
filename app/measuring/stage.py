"""Losses and metrics of one stage (train, val or test), over an epoch and over all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_max, dim_zero_min, dim_zero_sum

from app.measuring.balance import BalanceMetrics, curves
from app.measuring.metric_curves import curves_of, made_up, tried
from app.ranks.collectives import first, gathered
from app.tasks import Task
from app.tasks.class_counts import ClassCounts
from app.tasks.evaluation import Evaluated
from models.by_name import ModulesByName
from models.errors import ConfigurationError

Sums = dict[str, dict[str, Any]]  # metric → what it is, how many updates, and its states


class MeanLosses(Metric):
    """Mean loss of each task over the rows of an epoch that have a label.

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

    Validation and test measure more than training: what a task's evaluation gives, of all rows at once.

    Args:
        stage: "train", "val" or "test".
        tasks: Name → task.

    Attributes:
        better: Task → curve of one of its metrics → whether more of it is better, None if the metric does not say.
        evaluations: Task → what is kept of its rows, of those that keep some.
        counts: Task → how its classes were told apart in the last epoch that was computed.

    Raises:
        ValueError: A metric gives neither a number nor one for each class.
    """

    def __init__(self, stage: str, tasks: ModulesByName[Task]) -> None:
        super().__init__()
        self.stage, self.names = stage, list(tasks)
        self.weights = {name: task.config.weight for name, task in tasks.items() if not task.config.auxiliary}
        self.losses = MeanLosses(len(tasks))
        self.balance = BalanceMetrics(len(tasks))
        self.collections = ModulesByName[MetricCollection](
            {  # groups of metrics that share their state are guessed from the first batch, in which others may agree
                name: MetricCollection(dict(task.metrics()), compute_groups=False) for name, task in tasks.items()
            }
        )
        kept = {name: task.evaluation() for name, task in tasks.items()} if stage != "train" else {}
        self.evaluations = {name: each for name, each in kept.items() if each is not None}
        self.own_metrics = {name for name, task in tasks.items() if task.config.metrics is not None}
        self.counts: dict[str, ClassCounts] = {}
        self.class_names = {name: task.target.class_names for name, task in tasks.items()}
        self.better: dict[str, dict[str, bool | None]] = {
            name: {
                curve: metric.higher_is_better
                for quantity, metric in self.collections[name].items()
                for curve in self._curves(name, tried(task, quantity, metric))
            }
            for name, task in tasks.items()
        }
        for name in self.evaluations:
            self.better[name] |= dict.fromkeys(self.evaluated_once(tasks[name], *made_up(tasks[name])), True)

    def evaluated_once(self, task: Task, predicted: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The curves of the evaluation of a task that has one, of some rows, which do not count."""
        evaluation = task.evaluation()
        assert evaluation is not None
        evaluation.update(predicted, labels)
        return self._curves(task.name, self._figures(task.name, evaluation.evaluated([evaluation.state()])))

    def _figures(self, task: str, evaluated: Evaluated) -> dict[str, Tensor]:
        """Those of an evaluation, unless metrics of the user's are in their place."""
        return {} if task in self.own_metrics else evaluated.figures

    def update(self, sums: Tensor, rows: Tensor, predictions: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add one batch.

        Args:
            sums: [T] sum of each task's losses.
            rows: [T] rows in that sum, but for those whose maps have no pixel with a label.
            predictions: task → predictions and labels, as its metrics want them.
        """
        self.losses.update(sums, rows)
        for name, (predicted, labels) in predictions.items():
            if len(labels):  # maps may have no pixel with a label, which metrics fail on
                self.collections[name].update(predicted, labels)
                if name in self.evaluations:
                    self.evaluations[name].update(predicted, labels)

    def compute(self, decide: bool = False) -> dict[str, Tensor]:
        """All values of the epoch over all ranks; then start anew. Collective; a task without rows has no values.

        A figure that the rows do not define, such as the AUROC of one class alone, is left out.

        A metric that gives a number for each class has a curve for each, `<metric>/<stage>/<task>/<class>`.
        `loss/<stage>/total` is the weighted sum of the tasks' losses, auxiliary tasks left out. `<metric>/<stage>/mean`
        is the plain mean over these tasks, of a metric of one number that each of them has.

        Args:
            decide: Whether the tasks first set by these rows what they decide by, such as thresholds.
        """
        means, rows = (each.view(len(self.names)) for each in self.losses.compute())  # torchmetrics makes [1] a scalar
        measured = zip(self.names, means, rows, strict=True)
        losses = {name: loss for name, loss, count in measured if count}  # a NaN of a run gone wrong is to be seen
        values = {f"loss/{self.stage}/{name}": loss for name, loss in losses.items()}
        weighted = [weight * losses[name] for name, weight in self.weights.items() if name in losses]
        values[f"loss/{self.stage}/total"] = torch.stack(weighted).sum() if weighted else torch.tensor(torch.nan)
        for name in losses:
            values |= self._curves(name, self.collections[name].compute())
        for name, evaluated in self._evaluated(decide).items():
            figures = self._figures(name, evaluated).items()
            values |= self._curves(name, {quantity: value.to(means) for quantity, value in figures})
        for quantity in self.in_common():
            keys = [f"{quantity}/{self.stage}/{name}" for name in self.weights if name in losses]
            if present := [values[key] for key in keys if key in values]:
                values[f"{quantity}/{self.stage}/mean"] = torch.stack(present).mean()
        values |= curves(self.names, self.stage, self.balance.compute()) if self.balance.update_called else {}
        self.reset()
        return values

    def _evaluated(self, decide: bool) -> dict[str, Evaluated]:
        """Task → what came of the evaluation of its rows of all ranks, of those that have any. Collective."""
        parts = gathered({name: each.state() for name, each in self.evaluations.items()}) if self.evaluations else []
        found = {}
        for name, evaluation in self.evaluations.items():
            states = [part[name] for part in parts if part[name]]
            if states and decide:
                evaluation.decide(states)
            if states:
                found[name] = evaluation.evaluated(states)
        self.counts = {name: each.counts for name, each in found.items() if each.counts is not None}
        return found

    def check_gatherable(self) -> None:
        """Refuse metrics that several processes cannot gather from one of them that has no rows.

        Raises:
            ValueError: A metric keeps every prediction in a list.
        """
        for name, collection in self.collections.items():
            for quantity, metric in collection.items():
                if any(isinstance(default, list) for default in metric._defaults.values()):
                    raise ConfigurationError(
                        f"model.tasks.{name}.metrics.{quantity}",
                        "must not keep every prediction when there are several processes",
                        f"{type(metric).__name__}; curves keep counts where `thresholds` is given",
                    )

    def reset(self) -> None:
        """Forget the epoch so far."""
        self.losses.reset()
        self.balance.reset()
        for collection in self.collections.values():
            collection.reset()
        for evaluation in self.evaluations.values():
            evaluation.reset()

    def sums(self) -> Sums:
        """What this process has of the epoch so far: tensors on the CPU and plain values, by the metric's place."""
        return {
            name: {
                "kind": _kind(metric),
                "updates": metric._update_count,
                "states": {state: _copy(value, "cpu") for state, value in metric.metric_state.items()},
            }
            for name, metric in self._metrics()
        }

    def go_on_from(self, parts: Sequence[Sums]) -> None:
        """Take over what `sums` gave, of several processes together; metrics that have changed since start anew.

        Raises:
            ValueError: There are several parts, and a metric has states that cannot be put together.
        """
        parts = [part for part in parts if part["losses"]["updates"]]  # at an epoch's end, none has any
        for name, metric in self._metrics() if parts else []:
            known = [part[name] for part in parts if name in part and part[name]["kind"] == _kind(metric)]
            if len(known) < len(parts):
                if first():
                    warn(f"{self.stage}: the checkpoint has no such metric as {name}; it starts anew", stacklevel=2)
            elif updated := [each for each in known if each["updates"]]:
                _take_over(name, metric, updated)

    def _metrics(self) -> Iterator[tuple[str, Metric]]:
        """Every metric, also those within others, and its place."""
        return ((name, each) for name, each in self.named_modules() if isinstance(each, Metric))

    def higher_is_better(self) -> dict[str, bool | None]:
        """The name of every curve of the stage, and what its metric says of its direction; None if it does not."""
        better: dict[str, bool | None] = {f"loss/{self.stage}/{name}": False for name in [*self.names, "total"]}
        for curves_of_task in self.better.values():
            better |= curves_of_task
        return better | {f"{quantity}/{self.stage}/mean": up for quantity, up in self.in_common().items()}

    def in_common(self) -> dict[str, bool | None]:
        """The metrics of one number that all of several tasks have, auxiliary ones left out, and their directions."""
        whole = [
            {(curve.split("/")[0], up) for curve, up in self.better[name].items() if curve.count("/") == 2}
            for name in self.weights
        ]
        return dict(sorted(set.intersection(*whole))) if len(whole) > 1 else {}

    def _curves(self, task: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a task's metrics give, by the name of its curve."""
        return curves_of(values, self.stage, task, self.class_names[task])


def _kind(metric: Metric) -> list[Any]:
    """What tells a metric from another one whose states do not fit: its class, its states and their shapes."""
    shapes = {state: list(x.shape) if isinstance(x, Tensor) else None for state, x in metric._defaults.items()}
    return [type(metric).__name__, shapes]


def _take_over(name: str, metric: Metric, parts: list[dict[str, Any]]) -> None:
    """Give `metric` the states of several processes together, in the way in which it gathers them itself."""
    for state, reduction in metric._reductions.items():
        value, *others = (part["states"][state] for part in parts)
        if others:
            if reduction not in (dim_zero_sum, dim_zero_max, dim_zero_min):
                raise ConfigurationError(
                    "trainer.devices",
                    f"from the middle of an epoch, {name}, whose states cannot be put together, needs as "
                    "many processes as the checkpoint was written by; found fewer",
                )
            value = reduction(torch.stack([value, *others]))
        setattr(metric, state, _copy(value, metric.device))
    metric._update_count, metric._computed = sum(part["updates"] for part in parts), None


def _copy(state: Tensor | list[Tensor], device: torch.device | str) -> Tensor | list[Tensor]:
    """A state on another device. Never itself: metrics add to their states in place."""
    if isinstance(state, Tensor):
        return state.detach().to(device, copy=True)
    return [x.detach().to(device, copy=True) for x in state]
