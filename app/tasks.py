"""How a target is learned: its loss, its metrics, and the way back to the user's own labels and units."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryF1Score,
    MulticlassAccuracy,
    MultilabelAccuracy,
    MultilabelF1Score,
)

from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target
from models.heads import Head

HeadFactory = Callable[[list[int], int], Head]


@dataclass
class TaskConfig:
    """What the configuration may say of one task; everything else follows from its target.

    Args:
        weight: Factor of the task's loss in the sum that is minimised.
        auxiliary: Train the task, but leave it out of `loss/val/total`, by which the best checkpoint is chosen.
        head: Another head than `model.head`.
        loss: Another loss than the target's: called with the head's output [B, outputs] and the labels [B, ...] (a
            continuous target's are standardised; a binary or continuous output comes as [B]), returns one loss a row
            (`reduction: none` for torch's own).
        metrics: Other metrics than the target's, by the name that their curves get.
        label_smoothing: Share of a categorical target's probability that is spread over all classes (Szegedy 2016).
        class_weights: Factors of a categorical target's classes in the loss, or "balanced" (rows / (classes × count)).
        pos_weight: Factor of the ones of a binary or multi-label target, or "balanced" (zeros / ones).
    """

    weight: float = 1.0
    auxiliary: bool = False
    head: HeadFactory | None = None
    loss: nn.Module | None = None
    metrics: dict[str, Metric] | None = None
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | list[float] | None = None
    pos_weight: Literal["balanced"] | float | list[float] | None = None


class Task(nn.Module, ABC):
    """One target's loss, metrics and decoding.

    Args:
        name: Of the task.
        target: What its label is.
        config: What the user wants otherwise.

    Raises:
        ValueError: The configuration does not fit the target.
    """

    options: tuple[str, ...] = ()  # those of TaskConfig that only some kinds of target have

    def __init__(self, name: str, target: Target, config: TaskConfig) -> None:
        super().__init__()
        self.name, self.target, self.config = name, target, config
        self._check()
        self.loss = config.loss or self.default_loss()
        if config.loss is None:
            for weight, values in list(self.loss.named_buffers()):  # the configuration's, not a checkpoint's
                self.loss.register_buffer(weight, values, persistent=False)

    @abstractmethod
    def default_loss(self) -> nn.Module:
        """The target's usual loss, one number a row."""

    @abstractmethod
    def default_metrics(self) -> dict[str, Metric]:
        """The target's usual metrics, by name."""

    @abstractmethod
    def predictions(self, outputs: Tensor) -> Tensor:
        """Outputs [B, outputs] as the metrics want them: probabilities, or values in the user's unit."""

    @abstractmethod
    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Outputs [B, outputs] as columns of a table, in the user's own labels and unit."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, [B], of outputs [B, outputs] and labels [B, ...]."""
        losses: Tensor = self.loss(outputs, labels)
        if losses.shape[:1] != labels.shape[:1]:
            raise ValueError(
                f"model.tasks.{self.name}.loss: must give one loss a row, shape ({len(labels)},), "
                f"found {tuple(losses.shape)}; torch's own losses want `reduction: none`"
            )
        return losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses

    def metrics(self) -> dict[str, Metric]:
        """New metrics of the task, by name."""
        if self.config.metrics is None:
            return self.default_metrics()
        return {name: metric.clone() for name, metric in self.config.metrics.items()}

    def metric_labels(self, labels: Tensor) -> Tensor:
        """Labels as the metrics want them."""
        return labels.long()

    def _check(self) -> None:
        key = f"model.tasks.{self.name}"
        if not 0 <= self.config.weight < inf:
            raise ValueError(f"{key}.weight: must be finite and not negative, found {self.config.weight}")
        if not 0 <= self.config.label_smoothing < 1:
            raise ValueError(f"{key}.label_smoothing: must be in [0, 1), found {self.config.label_smoothing}")
        for option in ("label_smoothing", "class_weights", "pos_weight"):
            value = getattr(self.config, option)
            given = value != getattr(TaskConfig, option)
            if given and option not in self.options:
                kind = type(self.target).__name__
                raise ValueError(f"{key}.{option}: is not for a target of kind {kind}, found {value}")
            if given and self.config.loss is not None:
                raise ValueError(f"{key}.{option}: belongs to the default loss, but {key}.loss is given, found {value}")
        for metric in self.config.metrics or {}:
            if metric == "loss" or not re.fullmatch(r"[\w-]+", metric):  # it names curves, beside those of the loss
                raise ValueError(
                    f"{key}.metrics: a name must be of letters, digits, '_' and '-', and not 'loss', found {metric!r}"
                )
        if getattr(self.config.loss, "reduction", "none") != "none":
            assert self.config.loss is not None
            raise ValueError(f"{key}.loss: reduction must be 'none', found {self.config.loss.reduction!r}")

    def _one_each(self, option: str, values: list[float], size: int) -> Tensor:
        """`values` as a tensor, if there is one number, not negative, for each of `size` classes."""
        if len(values) != size or min(values) < 0:
            key = f"model.tasks.{self.name}.{option}"
            raise ValueError(f"{key}: must be {size} numbers that are not negative, found {values}")
        return torch.tensor(values, dtype=torch.get_default_dtype())


class CategoricalTask(Task):
    """Cross-entropy, micro accuracy."""

    options = ("label_smoothing", "class_weights")
    target: Categorical

    def default_loss(self) -> nn.Module:
        """Cross-entropy with class weights and label smoothing."""
        return nn.CrossEntropyLoss(
            weight=self._class_weights(), label_smoothing=self.config.label_smoothing, reduction="none"
        )

    def default_metrics(self) -> dict[str, Metric]:
        """Share of rows whose largest output is the label's."""
        classes = len(self.target.classes)
        return {"accuracy": MulticlassAccuracy(num_classes=classes, average="micro", validate_args=False)}

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of labels of any integer type."""
        return super().losses(outputs, labels.long())

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [B, C]."""
        return outputs.softmax(dim=1)

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The most probable class and its probability."""
        probability, index = self.predictions(outputs).max(dim=1)
        classes = [self.target.classes[i] for i in index.tolist()]
        return {self.name: classes, f"{self.name}_probability": probability.tolist()}

    def _class_weights(self) -> Tensor | None:
        classes, weights = len(self.target.classes), self.config.class_weights
        if weights is None:
            return None
        if weights == "balanced":
            counts = torch.tensor(self.target.counts)
            return torch.where(counts > 0, counts.sum() / (classes * counts), 0.0)
        return self._one_each("class_weights", weights, classes)


class BinaryTask(Task):
    """Binary cross-entropy, accuracy and F1."""

    options = ("pos_weight",)
    target: Binary

    def default_loss(self) -> nn.Module:
        """Binary cross-entropy of the logit."""
        weight = self.config.pos_weight
        balance = None if weight is None else _pos_weight(self, weight, [self.target.positives])
        return nn.BCEWithLogitsLoss(reduction="none", pos_weight=balance)

    def default_metrics(self) -> dict[str, Metric]:
        """At the threshold of one half."""
        return {"accuracy": BinaryAccuracy(validate_args=False), "f1": BinaryF1Score(validate_args=False)}

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of the logits [B, 1]."""
        return super().losses(outputs.squeeze(1), labels.to(outputs.dtype))

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [B]."""
        return outputs.squeeze(1).sigmoid()

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The more probable name, and the probability of the second one."""
        probability = self.predictions(outputs).tolist()
        names = [self.target.names[p > 0.5] for p in probability]
        return {self.name: names, f"{self.name}_probability_{self.target.names[1]}": probability}


class MultiLabelTask(Task):
    """Binary cross-entropy, accuracy and F1 over all classes."""

    options = ("pos_weight",)
    target: MultiLabel

    def default_loss(self) -> nn.Module:
        """Binary cross-entropy of the logits, averaged over the classes."""
        weight = self.config.pos_weight
        balance = None if weight is None else _pos_weight(self, weight, list(self.target.positives))
        return nn.BCEWithLogitsLoss(reduction="none", pos_weight=balance)

    def default_metrics(self) -> dict[str, Metric]:
        """Micro accuracy and macro F1, at the threshold of one half."""
        labels = len(self.target.classes)
        return {
            "accuracy": MultilabelAccuracy(num_labels=labels, average="micro", validate_args=False),
            "f1": MultilabelF1Score(num_labels=labels, average="macro", validate_args=False),
        }

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of labels of any type."""
        return super().losses(outputs, labels.to(outputs.dtype))

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [B, C]."""
        return outputs.sigmoid()

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The classes above one half, joined by `|`, and the probability of each class."""
        probabilities = self.predictions(outputs)
        columns: dict[str, list[Any]] = {
            self.name: [
                "|".join(name for name, p in zip(self.target.classes, row, strict=True) if p > 0.5)
                for row in probabilities.tolist()
            ]
        }
        for index, name in enumerate(self.target.classes):
            columns[f"{self.name}_probability_{name}"] = probabilities[:, index].tolist()
        return columns


class ContinuousTask(Task):
    """Squared error of the standardised value; absolute and root-mean-square error in the user's unit."""

    target: Continuous
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, target: Continuous, config: TaskConfig) -> None:
        super().__init__(name, target, config)
        # In the checkpoint: a trained head speaks in these units, whatever data it meets later.
        self.register_buffer("mean", torch.tensor(target.mean))
        self.register_buffer("std", torch.tensor(target.std))

    def default_loss(self) -> nn.Module:
        """Squared error."""
        return nn.MSELoss(reduction="none")

    def default_metrics(self) -> dict[str, Metric]:
        """Both in the user's unit."""
        return {"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of the standardised labels."""
        values = _at_least_float32(outputs.squeeze(1))
        return super().losses(values, ((labels - self.mean) / self.std).to(values.dtype))

    def predictions(self, outputs: Tensor) -> Tensor:
        """Values [B] in the user's unit."""
        return _at_least_float32(outputs.squeeze(1)) * self.std + self.mean

    def metric_labels(self, labels: Tensor) -> Tensor:
        """As they are."""
        return labels

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The value, its column headed by the unit."""
        column = f"{self.name} ({self.target.unit})" if self.target.unit else self.name
        return {column: self.predictions(outputs).tolist()}


TASKS: Mapping[type[Target], type[Task]] = {
    Categorical: CategoricalTask,
    Binary: BinaryTask,
    MultiLabel: MultiLabelTask,
    Continuous: ContinuousTask,
}


def task_of(name: str, target: Target, config: TaskConfig) -> Task:
    """The task for a target of a known kind, or of a kind derived from one.

    Raises:
        ValueError: The kind is unknown, or the configuration does not fit it.
    """
    for kind, task in TASKS.items():
        if isinstance(target, kind):
            return task(name, target, config)
    kinds = ", ".join(kind.__name__ for kind in TASKS)
    raise ValueError(f"data.targets.{name}: must be a {kinds} or derived from one, found {type(target).__name__}")


def _at_least_float32(values: Tensor) -> Tensor:
    """Half precision tells few numbers of the user's unit apart: of 2000 and 2003, bfloat16 makes one."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _pos_weight(task: Task, weight: Literal["balanced"] | float | list[float], positives: list[float]) -> Tensor:
    """The factor of the ones of each class, of which the share `positives` are ones."""
    if weight == "balanced":
        if min(positives) == 0:
            raise ValueError(
                f"model.tasks.{task.name}.pos_weight: 'balanced' needs a positive training row of every class, "
                f"found shares {positives}"
            )
        share = torch.tensor(positives)
        return (1 - share) / share
    values = weight if isinstance(weight, list) else [weight] * len(positives)
    return task._one_each("pos_weight", values, len(positives))
