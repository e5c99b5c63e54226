"""What every task answers, and what a user may say of one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from app.tasks.evaluation import Evaluation
from app.tasks.ranking import Rule
from datamodules.targets import Target
from models.errors import ConfigurationError
from models.heads import Head, LinearHead

OF_THE_LOSS = ("label_smoothing", "class_weights", "pos_weight")  # options that only some kinds of target have
HeadFactory = Callable[[list[int], int], Head]


@dataclass
class TaskConfig:
    """What the configuration may say of one task; everything else follows from its target.

    Args:
        weight: Factor of the task's loss in the sum that is minimised.
        rate: Factor of the learning rate of the task's head.
        auxiliary: Train the task, but leave it out of `loss/val/total`, by which the best checkpoint is chosen.
        head: Another head than `model.head`.
        reads: Tasks whose predictions, of this task's rows, its head reads beside the features: a cascade.
        embedding: How many numbers stand for such a prediction.
        detached: Whether this task's loss leaves the tasks that are read alone. If not, their heads are shared.
        task: How the label is learned, a class derived from `app.tasks.Task`: for a kind of target that is your own, or
            in place of what its kind has.
        loss: Another loss than the target's: called with the head's output [B, outputs] and the labels [B, ...] (a
            continuous target's are standardised; a binary or continuous output comes as [B]), returns one loss a row
            (`reduction: none` for torch's own). Of a dense target, both are maps, which have been filled where labels
            are missing, and it returns one loss a pixel.
        metrics: Other metrics than the target's, by the name that their curves get.
        label_smoothing: Share of a categorical target's probability that is spread over all classes (Szegedy 2016).
        class_weights: Factors of a categorical target's classes in the loss, or, except for a dense one, "balanced"
            (rows / (classes × count)).
        pos_weight: Factor of the ones of a binary or multi-label target, or "balanced" (zeros / ones).
        threshold: Above which probability a binary target is said to be the second of its names; or what the
            threshold, which the validation split then sets, is to make largest there: "balanced_accuracy" or "f1".
        calibrate: Whether the validation split sets a binary target's temperature, by which logits are divided.
    """

    weight: float = 1.0
    rate: float = 1.0
    auxiliary: bool = False
    head: HeadFactory | None = None
    reads: Sequence[str] = ()
    embedding: int = 8
    detached: bool = True
    task: TaskFactory | None = None
    loss: nn.Module | None = None
    metrics: dict[str, Metric] | None = None
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | list[float] | None = None
    pos_weight: Literal["balanced"] | float | list[float] | None = None
    threshold: float | Rule = 0.5
    calibrate: bool = False


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
    default_head: type[Head] = LinearHead
    label_type: type = str

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

    def shown(self, outputs: Tensor) -> Tensor:
        """Outputs [B, outputs] as other tasks' heads read them, of the same shape; here as they are."""
        return outputs

    @abstractmethod
    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Outputs [B, outputs] as columns of a table, in the user's own labels and unit; arrays go to files."""

    def class_probabilities(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Columns of the probability of every class, of outputs [B, outputs], beside those that `decode` gives."""
        return {}

    def decode_labels(self, labels: Tensor) -> list[Any]:
        """Labels [B, ...] as `decode` writes predictions, each of the type `label_type`."""
        return [self.target.describe(label) for label in labels]

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, [B], of outputs [B, outputs] and labels [B, ...]."""
        losses = self._called(outputs, labels)
        if losses.shape[:1] != labels.shape[:1]:
            raise ConfigurationError(
                f"model.tasks.{self.name}.loss",
                f"must give one loss a row, shape ({len(labels)},)",
                f"{tuple(losses.shape)}; torch's own losses want `reduction: none`",
            )
        return losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses

    def errors(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How far each row is off, [B], of outputs [B, outputs] and labels [B, ...]; here its loss."""
        return self.losses(outputs, labels)

    def _called(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What the loss gives; what one of torch's raises that the configuration names, is the user's."""
        try:
            losses: Tensor = self.loss(outputs, labels)
        except (ValueError, RuntimeError, TypeError) as error:
            of_torch = type(self.loss).__module__.startswith("torch.")
            if self.config.loss is None or not of_torch or isinstance(error, torch.OutOfMemoryError):
                raise
            raise ConfigurationError(
                f"model.tasks.{self.name}.loss",
                f"must take outputs {tuple(outputs.shape)} and labels {tuple(labels.shape)}",
                f"{type(self.loss).__name__}, which raises {type(error).__name__}: {' '.join(str(error).split())}",
            ) from error
        return losses

    def counted(self, labels: Tensor) -> int:
        """Number of rows of `labels` [B, ...] that the mean loss of an epoch is over."""
        return len(labels)

    def evaluation(self) -> Evaluation | None:
        """A new collection of what validation and test need of all rows at once, for figures beside the metrics."""
        return None

    def metrics(self) -> dict[str, Metric]:
        """New metrics of the task, by name."""
        if self.config.metrics is None:
            return self.default_metrics()
        return {name: metric.clone() for name, metric in self.config.metrics.items()}

    def metric_labels(self, labels: Tensor) -> Tensor:
        """Labels as the metrics want them."""
        return labels.long()

    def measured(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What the metrics are shown of outputs [B, outputs] and labels [B, ...]."""
        return self.predictions(outputs), self.metric_labels(labels)

    def no_outputs(self) -> Tensor:
        """Outputs of one row, [1, outputs], zeros."""
        return torch.zeros(1, self.target.outputs)

    def _check(self) -> None:
        key = f"model.tasks.{self.name}"
        if not 0 <= self.config.weight < inf:
            raise ConfigurationError(f"{key}.weight", "must be finite and not negative", self.config.weight)
        if not 0 < self.config.rate < inf:
            raise ConfigurationError(f"{key}.rate", "must be finite and greater than 0", self.config.rate)
        if not 0 <= self.config.label_smoothing < 1:
            raise ConfigurationError(f"{key}.label_smoothing", "must be in [0, 1)", self.config.label_smoothing)
        threshold, rules = self.config.threshold, get_args(Rule)
        if threshold not in rules if isinstance(threshold, str) else not 0 < threshold < 1:
            raise ConfigurationError(f"{key}.threshold", f"must be in (0, 1), or {' or '.join(rules)}", threshold)
        for option in (*OF_THE_LOSS, "threshold", "calibrate"):
            value = getattr(self.config, option)
            given = value != getattr(TaskConfig, option)
            if given and option not in self.options:
                kind = type(self.target).__name__
                raise ConfigurationError(f"{key}.{option}", f"is not for a target of kind {kind}", value)
            if given and option in OF_THE_LOSS and self.config.loss is not None:
                raise ConfigurationError(
                    f"{key}.{option}", f"belongs to the default loss, but {key}.loss is given", value
                )
        if isinstance(self.config.class_weights, list) and not any(self.config.class_weights):
            raise ConfigurationError(f"{key}.class_weights", "must have a number above 0", self.config.class_weights)
        for metric in self.config.metrics or {}:
            if metric == "loss" or not re.fullmatch(r"[\w-]+", metric):  # it names curves, beside those of the loss
                raise ConfigurationError(
                    f"{key}.metrics", "a name must be of letters, digits, '_' and '-', and not 'loss'", repr(metric)
                )
        if getattr(self.config.loss, "reduction", "none") != "none":
            assert self.config.loss is not None
            raise ConfigurationError(f"{key}.loss", "reduction must be 'none'", repr(self.config.loss.reduction))

    def _one_each(self, option: str, values: list[float], size: int) -> Tensor:
        """`values` as a tensor, if there is one number, not negative, for each of `size` classes."""
        if len(values) != size or min(values) < 0:
            key = f"model.tasks.{self.name}.{option}"
            raise ConfigurationError(key, f"must be {size} numbers that are not negative", values)
        return torch.tensor(values, dtype=torch.get_default_dtype())


TaskFactory = Callable[[str, Target, TaskConfig], Task]


def check_columns(tasks: Iterable[Task]) -> None:
    """Refuse tasks whose predictions would have columns of the same name.

    Raises:
        ValueError: Two of them have.
    """
    owners: dict[str, str] = {}
    for task in tasks:
        for column in {**task.decode(task.no_outputs()), **task.class_probabilities(task.no_outputs())}:
            if column in owners:
                raise ConfigurationError(
                    "data.targets",
                    "columns of predictions must differ",
                    f"{column!r} of tasks {owners[column]!r} and {task.name!r}",
                )
            owners[column] = task.name


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision tells few standardised values apart: of 2.000 and 2.003, bfloat16 makes one."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
