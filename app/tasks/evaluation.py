"""What validation and test keep of their rows, for figures that are of all rows at once.

Metrics of torchmetrics that keep rows cannot be gathered from a process that has none. These keep what is needed and no
more, on the CPU where it grows with the rows; whoever has them brings the processes' states together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from app.tasks.class_counts import MOST_CLASSES, ClassCounts, confusion
from app.tasks.decision import Decision
from app.tasks.ranking import ranking_figures

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Evaluated:
    """What came of an evaluation.

    Attributes:
        figures: Quantity → its value, of those that the rows define; more of each is better.
        counts: How the classes were told apart, of a task that has some.
    """

    figures: dict[str, Tensor] = field(default_factory=dict)
    counts: ClassCounts | None = None


class Evaluation(ABC):
    """Rows of a validation or test."""

    @abstractmethod
    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add a batch, as metrics are shown it."""

    @abstractmethod
    def state(self) -> State:
        """What is kept of the rows since the last reset, on the CPU; empty if there were none."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the rows."""

    @abstractmethod
    def evaluated(self, states: Sequence[State]) -> Evaluated:
        """The figures of the rows of several states, one a process, of which one at least is not empty."""

    def decide(self, states: Sequence[State]) -> None:  # noqa: B027  # most kinds of task have nothing to set
        """Set what the task decides by, from all rows of a validation."""


class Summed(Evaluation):
    """Counts, which are added up where the predictions are."""

    def __init__(self) -> None:
        self._total: Tensor | None = None

    @abstractmethod
    def counts(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Of a batch, int64 [...]."""

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add a batch's counts."""
        counts = self.counts(predicted, labels)
        self._total = counts if self._total is None else self._total + counts

    def state(self) -> State:
        """Their sum."""
        return () if self._total is None else (self._total.cpu(),)

    def reset(self) -> None:
        """Forget them."""
        self._total = None

    @staticmethod
    def total(states: Sequence[State]) -> Tensor:
        """The sum of several states."""
        return torch.stack([part for state in states for part in state]).sum(0)


class ClassEvaluation(Summed):
    """Balanced accuracy and macro F1 of one class a row, exact.

    Args:
        classes: Number of classes C.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def counts(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Of each pair of classes, or of more than 256 classes label, prediction and both, of a batch.

        Args:
            predicted: [B, C] probabilities, or [B] class indices.
            labels: [B] class indices.
        """
        said = predicted.argmax(1) if predicted.ndim > 1 else predicted.long()
        if self.classes <= MOST_CLASSES:
            return confusion(labels, said, self.classes)
        each = (labels, said, labels[labels == said])
        return torch.stack([torch.bincount(x, minlength=self.classes) for x in each])

    def evaluated(self, states: Sequence[State]) -> Evaluated:
        """Both figures."""
        total = self.total(states)
        if self.classes <= MOST_CLASSES:
            counts = ClassCounts.of_matrix(total)
        else:
            support, predicted, hits = total
            counts = ClassCounts(support, predicted, hits, int(support.sum()))
        return Evaluated({"balanced_accuracy": counts.balanced_accuracy(), "f1": counts.macro_f1()}, counts)


class Kept(Evaluation):
    """A score and a label of every row, in the memory of the CPU."""

    def __init__(self) -> None:
        self._parts: list[State] = []

    @abstractmethod
    def score(self, predicted: Tensor) -> Tensor:
        """What is kept of predictions [B, ...]."""

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Keep a batch's."""
        self._parts.append((self.score(predicted).cpu(), labels.bool().cpu()))

    def state(self) -> State:
        """All scores and labels, [N, ...]."""
        self._parts = [joined(self._parts)] if self._parts else []
        return self._parts[0] if self._parts else ()

    def reset(self) -> None:
        """Forget them."""
        self._parts = []


class BinaryEvaluation(Kept):
    """AUROC and average precision, exact; and accuracy and F1 where the validation split sets what they hang on.

    It keeps 9 bytes a row.

    Args:
        decision: The task's.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision

    def score(self, predicted: Tensor) -> Tensor:
        """Logits [B] of probabilities: the temperature may change before they are looked at."""
        return self.decision.logits(predicted)

    def decide(self, states: Sequence[State]) -> None:
        """Set temperature and threshold, where they are to be."""
        if self.decision.is_fitted and (parts := [state for state in states if state]):
            self.decision.fit(*joined(parts))

    def evaluated(self, states: Sequence[State]) -> Evaluated:
        """The figures by the threshold and temperature as they now are."""
        logits, positive = joined(states)
        said = self.decision.says_yes(self.decision.probabilities(logits))
        counts = ClassCounts.of_matrix(confusion(positive.long(), said.long(), 2))
        figures = ranking_figures(logits, positive)
        if self.decision.is_fitted:
            figures |= {"accuracy": counts.hits.sum().double() / counts.rows, "f1": counts.f1[1].nan_to_num()}
        return Evaluated(figures, counts)


class LabelCounts(Summed):
    """How often each of several labels a row is there and is predicted, above one half."""

    def counts(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """[4, C] label, prediction, both and rows, of predictions and labels [B, C]."""
        said, there = predicted > 0.5, labels.bool()
        return torch.stack([x.sum(0) for x in (there, said, there & said, torch.ones_like(there))])

    def evaluated(self, states: Sequence[State]) -> Evaluated:
        """No figure but the counts."""
        support, predicted, hits, rows = self.total(states)
        return Evaluated(counts=ClassCounts(support, predicted, hits, int(rows[0])))


class MultiLabelEvaluation(Kept):
    """Means over the classes of AUROC and average precision, exact; of the classes that some rows have and some lack.

    It keeps 5 bytes a row and class, of scores in single precision.
    """

    def score(self, predicted: Tensor) -> Tensor:
        """The probabilities [B, C] themselves."""
        return predicted

    def evaluated(self, states: Sequence[State]) -> Evaluated:
        """Both means, and the counts."""
        scores, there = joined(states)
        of_classes = [ranking_figures(*each) for each in zip(scores.unbind(1), there.unbind(1), strict=True)]
        defined = [figures for figures in of_classes if figures]
        means = {name: torch.stack([each[name] for each in defined]).mean() for name in (defined[0] if defined else ())}
        counting = LabelCounts()
        counting.update(scores, there)
        return Evaluated(means, counting.evaluated([counting.state()]).counts)


class ContinuousEvaluation(Evaluation):
    """R², the coefficient of determination: 1 − squared errors / squared deviations from the labels' mean.

    In double precision about the mean, by the formula of Chan, Golub and LeVeque (1983) for sums of squares of parts:
    labels far from zero that hardly differ lose no digits.
    """

    def __init__(self) -> None:
        self._moments: list[Tensor] = []

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add a batch: predictions and labels, [B]."""
        labels = labels.double()
        one, zero = torch.ones_like(labels), torch.zeros_like(labels)
        rows = torch.stack([one, labels, zero, zero, (labels - predicted).square()], dim=1)
        self._moments = [put_together(torch.cat([*(each[None] for each in self._moments), rows]))]

    def state(self) -> State:
        """The moments, float64 [5]; see `put_together`."""
        return tuple(each.cpu() for each in self._moments)

    def reset(self) -> None:
        """Forget the rows."""
        self._moments = []

    def evaluated(self, states: Sequence[State]) -> Evaluated:
        """R², unless all labels are equal."""
        *_, deviations, errors = put_together(torch.stack([part for state in states for part in state]))
        return Evaluated({} if deviations == 0 else {"r2": 1 - errors / deviations})


def put_together(moments: Tensor) -> Tensor:
    """The moments [5] of all rows, of those of K parts, [K, 5].

    They are the number of rows, one of their labels, how far the labels' mean is from it, the sum of their squared
    deviations from their mean, and that of the squared errors.
    """
    rows, labels, offsets, deviations, errors = moments.unbind(1)
    offsets = labels - labels[0] + offsets  # small numbers, and zero to the last bit if all labels are equal
    mean = (rows * offsets).sum() / rows.sum()
    deviation = deviations.sum() + (rows * (offsets - mean).square()).sum()
    return torch.stack([rows.sum(), labels[0], mean, deviation, errors.sum()])


def joined(states: Sequence[State]) -> State:
    """The rows of several states, empty ones left out."""
    return tuple(torch.cat(parts) for parts in zip(*filter(None, states), strict=True))
