"""A task for each kind of target."""

from __future__ import annotations

from collections.abc import Mapping
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

from app.tasks.base import Task, TaskConfig, at_least_float32
from app.tasks.decision import Decision
from app.tasks.dense import DenseCategoricalTask, DenseContinuousTask, UnitVectorsTask
from app.tasks.evaluation import (
    BinaryEvaluation,
    ClassEvaluation,
    ContinuousEvaluation,
    Evaluation,
    LabelCounts,
    MultiLabelEvaluation,
)
from datamodules.targets import (
    Binary,
    Categorical,
    Continuous,
    DenseCategorical,
    DenseContinuous,
    MultiLabel,
    Target,
    UnitVectors,
)
from models.errors import ConfigurationError


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

    def evaluation(self) -> Evaluation:
        """Balanced accuracy and macro F1."""
        return ClassEvaluation(len(self.target.classes))

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of labels of any integer type."""
        return super().losses(outputs, labels.long())

    def errors(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """1 less the probability of the label's class."""
        return 1 - self.predictions(outputs).gather(1, labels.long()[:, None]).squeeze(1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [B, C]."""
        return outputs.softmax(dim=1)

    def shown(self, outputs: Tensor) -> Tensor:
        """Probabilities [B, C]."""
        return self.predictions(outputs)

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The most probable class and its probability."""
        probability, index = self.predictions(outputs).max(dim=1)
        classes = [self.target.classes[i] for i in index.tolist()]
        return {self.name: classes, f"{self.name}_probability": probability.tolist()}

    def class_probabilities(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Of every class."""
        columns = zip(self.target.classes, self.predictions(outputs).unbind(dim=1), strict=True)
        return {f"{self.name}_probability_{name}": column.tolist() for name, column in columns}

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

    options = ("pos_weight", "threshold", "calibrate")
    target: Binary

    def __init__(self, name: str, target: Binary, config: TaskConfig) -> None:
        super().__init__(name, target, config)
        self.decision = Decision(config.threshold, config.calibrate)

    def default_loss(self) -> nn.Module:
        """Binary cross-entropy of the logit."""
        weight = self.config.pos_weight
        balance = None if weight is None else _pos_weight(self, weight, [self.target.positives])
        return nn.BCEWithLogitsLoss(reduction="none", pos_weight=balance)

    def default_metrics(self) -> dict[str, Metric]:
        """At the configured threshold, or one half where the validation split sets it."""
        threshold = 0.5 if isinstance(self.config.threshold, str) else self.config.threshold
        return {
            "accuracy": BinaryAccuracy(threshold, validate_args=False),
            "f1": BinaryF1Score(threshold, validate_args=False),
        }

    def evaluation(self) -> Evaluation:
        """AUROC and average precision."""
        return BinaryEvaluation(self.decision)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of the logits [B, 1]."""
        return super().losses(outputs.squeeze(1), labels.to(outputs.dtype))

    def errors(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same."""
        return (self.predictions(outputs) - labels).abs()

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [B], float64."""
        return self.decision.probabilities(outputs.squeeze(1))

    def shown(self, outputs: Tensor) -> Tensor:
        """Probabilities of the second name, [B, 1], as the network has them before validation sets a temperature."""
        return outputs.sigmoid()

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The second name where its probability is above the threshold, else the first; and that probability."""
        probabilities = self.predictions(outputs)
        names = [self.target.names[yes] for yes in self.decision.says_yes(probabilities).tolist()]
        return {self.name: names, f"{self.name}_probability_{self.target.names[1]}": probabilities.tolist()}

    def class_probabilities(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Of the first name, too."""
        return {f"{self.name}_probability_{self.target.names[0]}": (1 - self.predictions(outputs)).tolist()}


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

    def evaluation(self) -> Evaluation:
        """AUROC and average precision, unless metrics of the user's are in their place."""
        return MultiLabelEvaluation() if self.config.metrics is None else LabelCounts()

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of labels of any type."""
        return super().losses(outputs, labels.to(outputs.dtype))

    def errors(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same, on average of the classes."""
        return (self.predictions(outputs) - labels).abs().mean(dim=1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [B, C], at least float32: half precision has many equal ones."""
        return at_least_float32(outputs).sigmoid()

    def shown(self, outputs: Tensor) -> Tensor:
        """Probabilities [B, C]."""
        return self.predictions(outputs)

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The classes above one half, joined by `|` (alone if there are none), and the probability of each class."""
        probabilities = self.predictions(outputs)
        columns: dict[str, list[Any]] = {
            self.name: [
                "|".join(name for name, p in zip(self.target.classes, row, strict=True) if p > 0.5) or "|"
                for row in probabilities.tolist()
            ]
        }
        for index, name in enumerate(self.target.classes):
            columns[f"{self.name}_probability_{name}"] = probabilities[:, index].tolist()
        return columns

    def decode_labels(self, labels: Tensor) -> list[Any]:
        """The classes joined by `|`, as they are predicted."""
        rows = labels.tolist()
        return ["|".join(name for name, y in zip(self.target.classes, row, strict=True) if y) or "|" for row in rows]


class ContinuousTask(Task):
    """Squared error of the standardised value; absolute and root-mean-square error in the user's unit."""

    label_type = float
    target: Continuous
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, target: Continuous, config: TaskConfig) -> None:
        super().__init__(name, target, config)
        # In the checkpoint: a trained head speaks in these units, whatever data it meets later. In 64 bits, as are the
        # labels until they are standardised: single precision makes one of 1700000000 and 1700000050.
        self.register_buffer("mean", torch.tensor(target.mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(target.std, dtype=torch.float64))

    def default_loss(self) -> nn.Module:
        """Squared error."""
        return nn.MSELoss(reduction="none")

    def default_metrics(self) -> dict[str, Metric]:
        """Both in the user's unit."""
        return {"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}

    def evaluation(self) -> Evaluation:
        """R²."""
        return ContinuousEvaluation()

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, of the standardised labels."""
        values = at_least_float32(outputs.squeeze(1))
        return super().losses(values, ((labels.double() - self.mean) / self.std).to(values.dtype))

    def errors(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The absolute error, in the user's unit."""
        return (self.predictions(outputs) - labels).abs()

    def predictions(self, outputs: Tensor) -> Tensor:
        """Values [B] in the user's unit, float64."""
        return outputs.squeeze(1).double() * self.std + self.mean

    def metric_labels(self, labels: Tensor) -> Tensor:
        """Of the type of the predictions."""
        return labels.double()

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The value, its column headed by the unit."""
        column = f"{self.name} ({self.target.unit})" if self.target.unit else self.name
        return {column: self.predictions(outputs).tolist()}

    def decode_labels(self, labels: Tensor) -> list[Any]:
        """The values, in the user's unit."""
        return labels.tolist()


TASKS: Mapping[type[Target], type[Task]] = {
    Categorical: CategoricalTask,
    Binary: BinaryTask,
    MultiLabel: MultiLabelTask,
    Continuous: ContinuousTask,
    DenseCategorical: DenseCategoricalTask,
    DenseContinuous: DenseContinuousTask,
    UnitVectors: UnitVectorsTask,
}


def task_of(name: str, target: Target, config: TaskConfig) -> Task:
    """The task that the configuration names, else the one for a target of a known kind or one derived from it.

    Raises:
        ValueError: The kind is unknown and no task is named, or the configuration does not fit it.
    """
    if config.task is not None:
        return config.task(name, target, config)
    for kind, task in TASKS.items():
        if isinstance(target, kind):
            return task(name, target, config)
    kinds = ", ".join(kind.__name__ for kind in TASKS)
    raise ConfigurationError(
        f"data.targets.{name}",
        f"must be a {kinds} or derived from one, or model.tasks.{name}.task must be how it is learned",
        type(target).__name__,
    )


def _pos_weight(task: Task, weight: Literal["balanced"] | float | list[float], positives: list[float]) -> Tensor:
    """The factor of the ones of each class, of which the share `positives` are ones."""
    if weight == "balanced":
        if min(positives) == 0:
            raise ConfigurationError(
                f"model.tasks.{task.name}.pos_weight",
                "'balanced' needs a positive training row of every class",
                f"shares {positives}",
            )
        share = torch.tensor(positives)
        return (1 - share) / share
    values = weight if isinstance(weight, list) else [weight] * len(positives)
    return task._one_each("pos_weight", values, len(positives))
