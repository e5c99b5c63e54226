"""When a binary task says yes, and how sure it says it is: what the validation split may set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.tasks.ranking import Rule, best_threshold

HOTTEST = 100.0  # temperatures are within 1 / 100 and 100: rows that are all told apart would have them end in zero
STEPS = 60  # halvings of the interval of their logarithms, more than float64 tells apart


class Decision(nn.Module):
    """The threshold of a probability, and the temperature by which logits are divided before they become one.

    What the validation split sets is a buffer, and so in the checkpoint.

    Args:
        threshold: A number in (0, 1), or what the threshold is to make largest on the validation split.
        calibrate: Whether the validation split sets the temperature (Guo et al., 2017).
    """

    def __init__(self, threshold: float | Rule, calibrate: bool) -> None:
        super().__init__()
        self.rule: Rule | None = None
        self.threshold: Tensor | float
        self.temperature: Tensor | float
        if isinstance(threshold, str):
            self.rule = threshold
            self.register_buffer("threshold", torch.tensor(0.5, dtype=torch.float64))
        else:
            self.threshold = threshold
        if calibrate:
            self.register_buffer("temperature", torch.tensor(1.0, dtype=torch.float64))
        else:
            self.temperature = 1.0

    @property
    def is_fitted(self) -> bool:
        """Whether the validation split sets anything."""
        return self.rule is not None or isinstance(self.temperature, Tensor)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of logits [N], float64: in single precision all logits above 17 have the same."""
        temperature = self.temperature
        here = temperature.to(logits.device) if isinstance(temperature, Tensor) else temperature
        return (logits.double() / here).sigmoid()

    def logits(self, probabilities: Tensor) -> Tensor:
        """What `probabilities` was given, float64, as far as it can be told; never infinite."""
        logits = probabilities.double().logit().nan_to_num(torch.nan, 37.0, -745.0)
        return logits * float(self.temperature)

    def says_yes(self, probabilities: Tensor) -> Tensor:
        """Which of probabilities [N] are above the threshold, bool."""
        return probabilities > float(self.threshold)

    def fit(self, logits: Tensor, positive: Tensor) -> None:
        """Set the temperature, then the threshold; both stay as they are where rows of one kind are missing.

        Args:
            logits: [N] float64, all rows of the validation split.
            positive: [N] bool.
        """
        if positive.all() or not positive.any() or not logits.isfinite().all():
            return
        if isinstance(self.temperature, Tensor):
            self.temperature.fill_(best_temperature(logits, positive))
        if isinstance(self.threshold, Tensor) and self.rule is not None:
            self.threshold.fill_(best_threshold(self.probabilities(logits), positive, self.rule))


def best_temperature(logits: Tensor, positive: Tensor) -> float:
    """The temperature T with the least cross-entropy of logits [N] / T, within 1 / 100 and 100.

    The cross-entropy is convex in 1 / T, so that its slope has one root, which halving finds.
    """
    low, high = 1 / HOTTEST, HOTTEST  # of 1 / T
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        slope = (logits * ((logits * middle).sigmoid() - positive.double())).sum()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float((low * high) ** -0.5)
