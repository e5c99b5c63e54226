"""Losses brought to one scale by learned factors."""

import torch
from torch import Tensor, nn

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import raised


class IMTLL(Scalarizer):
    """Σ e^{s_i} L_i − s_i, with s_i learned by the network's optimizer; 0 at the start.

    Liu et al., "Towards Impartial Multi-Task Learning" (2021), IMTL-L. At rest e^{s_i} L_i = 1: every
    scaled loss is as large as every other. The paper pairs it with IMTL-G on the shared parameters.

    A loss of exactly 0 counts as 1e-20, so that s_i rises no further than −log 1e-20. Losses must not be negative.
    """

    linear = True

    def start(self, tasks: int) -> None:
        """One s_i a task."""
        self.log_scales = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(tasks)])

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The sum of the scaled losses [T'], less that of the logarithms of their scales."""
        log_scales = torch.stack([self.log_scales[task] for task in step.present.tolist()])
        return (log_scales.exp() * raised(losses) - log_scales).sum()
