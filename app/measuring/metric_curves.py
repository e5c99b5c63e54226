"""The curves of a metric: one number is one curve, numbers of classes are one each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from app.tasks import Task
from models.errors import ConfigurationError

NO_CLASS = -1.5


def curves_of(
    values: Mapping[str, Tensor], stage: str, task: str, class_names: Sequence[str] | None
) -> dict[str, Tensor]:
    """What a task's metrics give, quantity → value, by the name of its curve.

    That is `<quantity>/<stage>/<task>` for a number, and `<quantity>/<stage>/<task>/<class>` for each of several: the
    name of a class if there are as many, else a number from 0.

    Raises:
        ValueError: A value is neither a number nor a vector.
    """
    curves: dict[str, Tensor] = {}
    for quantity, value in values.items():
        if not torch.is_tensor(value) or value.squeeze().ndim > 1:
            found = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
            raise ConfigurationError(
                f"model.tasks.{task}.metrics.{quantity}", "must give a number, or one for each class", found
            )
        curve = f"{quantity}/{stage}/{task}"
        if value.numel() == 1:
            curves[curve] = value.reshape(())
            continue
        of_classes = class_names is not None and len(class_names) == value.numel()
        names = class_names if of_classes and class_names else [str(number) for number in range(value.numel())]
        curves |= {f"{curve}/{name}": part for name, part in zip(names, value.flatten(), strict=True)}
    return curves


def made_up(task: Task) -> tuple[Tensor, Tensor]:
    """Predictions and labels of two rows, as metrics are shown them.

    They are of the first and the last class, of none and of all, or have numbers of which one can be no class.
    """
    target = task.target
    shape = [max(size, 1) for size in target.label_shape]
    labels = torch.zeros(2, *shape, dtype=torch.float64)
    if target.class_names is None:
        labels[1] = NO_CLASS
    elif target.exclusive:
        labels[1] = len(target.class_names) - 1
    elif not target.dense:
        labels[1] = 1
    return task.measured(torch.cat([task.no_outputs()] * 2), target.typed(labels))


def tried(task: Task, quantity: str, metric: Metric) -> dict[str, Tensor]:
    """What a metric gives of two rows that are made up: of which shape, is known before there are others.

    A metric of the user's own that cannot be shown them, as one that wants more rows, is taken to give a number.

    Raises:
        ConfigurationError: One of torchmetrics does not take what the task's target gives.
    """
    collection = MetricCollection({quantity: metric.clone()}, compute_groups=False)
    with warnings.catch_warnings(action="ignore"):
        try:
            collection.update(*made_up(task))
            return collection.compute()
        except Exception as error:
            if not type(metric).__module__.startswith("torchmetrics."):
                return {quantity: torch.zeros(())}
            raise ConfigurationError(
                f"model.tasks.{task.name}.metrics.{quantity}",
                f"must take a target of kind {type(task.target).__name__}",
                f"{type(metric).__name__}, which raises {type(error).__name__}: {' '.join(str(error).split())}",
            ) from error
