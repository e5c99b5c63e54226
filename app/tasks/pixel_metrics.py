"""Metrics over the pixels that have a value, all of an epoch's together. Every state is a sum: ranks add theirs."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

BINS_PER_DEGREE = 100


class PixelMean(Metric):
    """Mean of what `update` adds: a number a pixel, in double precision."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add a number a pixel, [P]."""
        self.total += values.sum(dtype=torch.float64)
        self.pixels += values.numel()

    def compute(self) -> Tensor:
        """Their mean; NaN of no pixel."""
        return self.total / self.pixels


class AbsoluteError(PixelMean):
    """Mean of |prediction − label|."""

    higher_is_better = False

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add pixels: predictions and labels, [P]."""
        self.add((predicted.double() - labels).abs())


class RelativeError(PixelMean):
    """Mean of |prediction − label| / |label|, over the pixels whose label is not zero."""

    higher_is_better = False

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add pixels: predictions and labels, [P]."""
        there = labels != 0
        labels = labels[there].double()
        self.add((predicted[there] - labels).abs() / labels.abs())


class AngleMean(PixelMean):
    """Mean angle between prediction and label, in degrees."""

    higher_is_better = False

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add pixels: predicted vectors and unit vectors, [P, D]."""
        self.add(angles(predicted, labels))


class AngleWithin(PixelMean):
    """Share of the pixels whose angle between prediction and label is below a threshold.

    Args:
        degrees: The threshold.
    """

    higher_is_better = True

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add pixels: predicted vectors and unit vectors, [P, D]."""
        self.add(angles(predicted, labels) < self.degrees)


class AngleMedian(Metric):
    """Median angle between prediction and label, in degrees, over all pixels of the epoch.

    Medians of batches have no true mean, and all angles of an epoch do not fit in memory; so they are counted in bins
    of 0.01°. What is given is the middle of the median's bin, at most 0.005° from the exact median. The last bin is for
    what is not a number, as of a run gone wrong: if there is any, the median is NaN.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = 180 * BINS_PER_DEGREE
        self.add_state("counts", torch.zeros(bins + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add pixels: predicted vectors and unit vectors, [P, D]."""
        nan = len(self.counts) - 1
        bins = (angles(predicted, labels) * BINS_PER_DEGREE).clamp(max=nan - 1).nan_to_num(nan).long()
        self.counts += torch.bincount(bins, minlength=len(self.counts))

    def compute(self) -> Tensor:
        """The median, of an even number the mean of the two in the middle; NaN of no pixel or if any is NaN."""
        until = self.counts.cumsum(0)
        if not until[-1] or self.counts[-1]:
            return torch.tensor(torch.nan, dtype=torch.float64, device=until.device)
        middle = torch.stack([(until[-1] - 1) // 2, until[-1] // 2])
        bins = torch.searchsorted(until, middle, right=True)
        return (bins.double().mean() + 0.5) / BINS_PER_DEGREE


def angles(predicted: Tensor, labels: Tensor) -> Tensor:
    """Angles [P] in degrees between vectors [P, D]; in double precision, in which a right one is not 0.02° off."""
    cosines = torch.cosine_similarity(predicted.double(), labels.double(), dim=1)
    return cosines.clamp(-1, 1).arccos().rad2deg()
