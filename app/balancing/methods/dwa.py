"""Dynamic weight average."""

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.epoch_means import EpochMeans
from app.balancing.methods.near_zero import floored
from models.errors import ConfigurationError


class DWA(Scalarizer):
    """Σ w_i L_i with w = T softmax(r / τ), r_i the ratio of a task's mean losses in the last two epochs.

    Liu et al., "End-to-End Multi-Task Learning with Attention" (2019), equation 7: r_i = L_i(e−1) / L_i(e−2), and 1 in
    the first two epochs, so that all weights are 1. A loss that falls more slowly weighs more.

    A task's mean loss is over the steps in which it was present. An epoch without the task leaves its two means as they
    are, and until it has two of them r_i is 1. The softmax is over all T tasks, so that a task's weight does not depend
    on which others are in the step. A mean loss of exactly 0 counts as 1e-20. Losses must not be negative.

    Args:
        temperature: τ; the larger, the more equal the weights.

    Raises:
        ValueError: The temperature is not above 0.
    """

    linear = True
    observes = True
    last: Tensor  # [T] mean of the last epoch with the task that is over
    earlier: Tensor  # [T] mean of the one before
    over: Tensor  # [T] number of such epochs

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigurationError("model.balancer.temperature", "must be above 0", temperature)
        self.temperature = temperature

    def start(self, tasks: int) -> None:
        """A running mean and two past ones a task."""
        self.running = EpochMeans(tasks)
        self.register_buffer("last", torch.zeros(tasks))
        self.register_buffer("earlier", torch.zeros(tasks))
        self.register_buffer("over", torch.zeros(tasks, dtype=torch.long))

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The sum of the losses [T'] with the weights of the epoch."""
        last, earlier, over = self._past(step.epoch)
        ratios = torch.where(over >= 2, floored(last) / floored(earlier), 1.0)
        weights = len(ratios) * (ratios / self.temperature).softmax(0)
        return (weights[step.present] * losses).sum()

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """Add the losses to the epoch's means."""
        for kept, value in zip((self.last, self.earlier, self.over), self._past(step.epoch), strict=True):
            kept[step.present] = value[step.present]
        self.running.add(floored(losses), step.present, step.epoch)

    def _past(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `last`, `earlier` and `over` are for this epoch, in which a task may not have been seen yet."""
        ended = (self.running.epochs >= 0) & (self.running.epochs != epoch)
        last = torch.where(ended, self.running(), self.last)
        return last, torch.where(ended, self.last, self.earlier), self.over + ended
