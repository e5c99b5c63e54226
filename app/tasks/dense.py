"""A task for each kind of target that has a label a pixel."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from app.tasks.base import Task, at_least_float32
from app.tasks.pixel_metrics import AbsoluteError, AngleMean, AngleMedian, AngleWithin, RelativeError
from datamodules.targets import Dense, DenseCategorical, DenseContinuous, UnitVectors
from models.errors import ConfigurationError
from models.heads import Head, UpsamplingHead


class DenseTask(Task):
    """A task whose outputs are [B, outputs, H, W]. A pixel without a value counts nowhere.

    The loss of a row is the mean over its pixels that have a value, and the task's that over the rows, as of every
    task: so it is the same on any number of ranks and micro-batches. Published code for NYUv2 and Cityscapes takes the
    mean over all such pixels of a batch instead, in which an image counts by how many it has. A row that a random crop
    has left without a value has a loss of zero, and does not count in the means of an epoch. The loss does not see the
    outputs where there is no value: an infinite one would make gradients NaN.
    """

    default_head: type[Head] = UpsamplingHead
    target: Dense

    @abstractmethod
    def filled(self, labels: Tensor) -> Tensor:
        """Labels with something harmless where there is no value, for the loss."""

    def values(self, outputs: Tensor) -> Tensor:
        """Outputs [B, outputs, H, W] as the loss wants them."""
        return at_least_float32(outputs)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a row, [B], the mean over its pixels that have a value."""
        valid = self.target.valid(labels)
        values, filled = self.values(outputs), self.filled(labels)
        values = torch.where(valid if values.ndim == 3 else valid[:, None], values, 1)
        losses = self._called(values, filled.to(values.dtype) if filled.is_floating_point() else filled)
        losses = losses.mean(dim=1) if losses.ndim == 4 else losses  # of a vector's components
        if losses.shape != valid.shape:
            raise ConfigurationError(
                f"model.tasks.{self.name}.loss",
                f"must give one loss a pixel, shape {tuple(valid.shape)}",
                f"{tuple(losses.shape)}; torch's own losses want `reduction: none`",
            )
        return torch.where(valid, losses, 0).sum((1, 2)) / valid.sum((1, 2)).clamp_min(1)

    def counted(self, labels: Tensor) -> int:
        """Number of rows with a pixel that has a value."""
        return int(self.target.valid(labels).any((1, 2)).sum())

    def measured(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and labels of the P pixels that have a value, [P] or [P, D]."""
        valid = self.target.valid(labels)
        predicted, labels = self.predictions(outputs), self.metric_labels(labels)
        if predicted.ndim == 4:
            predicted, labels = predicted.movedim(1, -1), labels.movedim(1, -1)
        return predicted[valid], labels[valid]

    def no_outputs(self) -> Tensor:
        """Outputs of one row of one pixel, zeros."""
        return torch.zeros(1, self.target.outputs, 1, 1)


class DenseCategoricalTask(DenseTask):
    """Cross-entropy a pixel; mean intersection over union and pixel accuracy.

    `miou` is of one confusion matrix of all pixels of the split. The mean of each image's or batch's own, as of older
    papers, differs from it: by about 8 % according to the README of MTAN, which changed it in November 2020. A class
    that is neither predicted nor there does not count.
    """

    options = ("label_smoothing", "class_weights")
    target: DenseCategorical

    def default_loss(self) -> nn.Module:
        """Cross-entropy with class weights and label smoothing."""
        weights = self.config.class_weights
        if weights == "balanced":
            raise ConfigurationError(
                f"model.tasks.{self.name}.class_weights",
                f"must be a list for a target of kind {type(self.target).__name__}, whose pixels are not counted",
                "'balanced'",
            )
        factors = None if weights is None else self._one_each("class_weights", weights, self.target.outputs)
        return nn.CrossEntropyLoss(factors, label_smoothing=self.config.label_smoothing, reduction="none")

    def default_metrics(self) -> dict[str, Metric]:
        """Over all pixels of the split."""
        classes = self.target.outputs
        return {
            "miou": MulticlassJaccardIndex(num_classes=classes, average="macro", validate_args=False),
            "accuracy": MulticlassAccuracy(num_classes=classes, average="micro", validate_args=False),
        }

    def filled(self, labels: Tensor) -> Tensor:
        """The first class where there is none."""
        return torch.where(self.target.valid(labels), labels.long(), 0)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Class indices [B, H, W]."""
        return outputs.argmax(dim=1)

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Class indices, [H, W] a row, in the smallest type that holds them."""
        indices = self.predictions(outputs).cpu().numpy()
        return {self.name: list(indices.astype(np.min_scalar_type(self.target.outputs - 1)))}


class DenseContinuousTask(DenseTask):
    """Absolute error a pixel; mean absolute and relative error in the user's unit, over all pixels of the split."""

    target: DenseContinuous

    def default_loss(self) -> nn.Module:
        """Absolute error."""
        return nn.L1Loss(reduction="none")

    def default_metrics(self) -> dict[str, Metric]:
        """Absolute error, and relative to the label."""
        return {"abs_error": AbsoluteError(), "rel_error": RelativeError()}

    def values(self, outputs: Tensor) -> Tensor:
        """Values [B, H, W]."""
        return super().values(outputs).squeeze(1)

    def filled(self, labels: Tensor) -> Tensor:
        """One where there is none: its logarithm and its inverse are finite."""
        return torch.where(self.target.valid(labels), labels, 1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Values [B, H, W] in the user's unit."""
        return self.values(outputs)

    def metric_labels(self, labels: Tensor) -> Tensor:
        """As they are."""
        return labels

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Values, float32 [H, W] a row."""
        return {self.name: list(self.predictions(outputs).float().cpu().numpy())}


class UnitVectorsTask(DenseTask):
    """One minus the cosine a pixel; mean and median angle, and the shares within 11.25°, 22.5° and 30°."""

    target: UnitVectors

    def default_loss(self) -> nn.Module:
        """One minus the cosine between output and label."""
        return CosineLoss()

    def default_metrics(self) -> dict[str, Metric]:
        """Angles in degrees, over all pixels of the split."""
        return {
            "angle_mean": AngleMean(),
            "angle_median": AngleMedian(),
            "within_11_25": AngleWithin(11.25),
            "within_22_5": AngleWithin(22.5),
            "within_30": AngleWithin(30.0),
        }

    def filled(self, labels: Tensor) -> Tensor:
        """As they are: the cosine with a zero vector is zero."""
        return labels

    def predictions(self, outputs: Tensor) -> Tensor:
        """Vectors [B, D, H, W] of length 1."""
        return F.normalize(self.values(outputs), dim=1)

    def metric_labels(self, labels: Tensor) -> Tensor:
        """As they are."""
        return labels

    def decode(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Vectors of length 1, float32 [D, H, W] a row."""
        return {self.name: list(self.predictions(outputs).float().cpu().numpy())}


class CosineLoss(nn.Module):
    """One minus the cosine between two vectors a pixel."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss [B, H, W] of outputs and labels [B, D, H, W]."""
        return 1 - torch.cosine_similarity(outputs, labels, dim=1)
