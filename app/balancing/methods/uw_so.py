"""Weights from the uncertainties that are optimal for the step's losses."""

import torch
from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import ZERO, floored
from models.errors import ConfigurationError


class UWSO(Scalarizer):
    """Σ w_i L_i with w = softmax((1 / sg L) / τ): uncertainty weighting with its optimum put in, made soft (UW-SO).

    Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning" (2024). sg is the value
    without its gradient; the softmax is over the tasks of the step. Easy tasks (small losses) weigh most.

    A task whose loss is exactly 0 has weight 0: it would have all the weight, and stop the others. Losses must not be
    negative.

    Args:
        temperature: τ, in units of 1/loss; the larger, the more equal the weights. The paper searches it for each data
            set.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigurationError("model.balancer.temperature", "must be above 0", temperature)
        self.temperature = temperature

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The weighted sum of the losses [T']."""
        values = losses.detach()
        logits = 1 / floored(values) / self.temperature
        weights = logits.masked_fill(values <= ZERO, torch.finfo(logits.dtype).min).softmax(0)
        return (weights * floored(losses)).sum()
