"""Weights from learned uncertainties."""

import torch
from torch import Tensor, nn

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step
from app.balancing.methods.near_zero import raised


class UncertaintyWeighting(Scalarizer):
    """Σ ½ e^{−s_i} L_i + ½ s_i, with s_i = log σ_i² learned by the network's optimizer; 0 at the start.

    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics" (2018),
    equation 7. At rest s_i = log L_i, and a task weighs 1 / (2 L_i).

    Note:
        The formula is the one for regression; for classification (equation 10) the paper has e^{−s_i} L_i, which
        `model.tasks.<task>.weight: 2` gives. LibMTL and TorchJD too use the one formula for all tasks; LibMTL starts
        from s_i = −0.5.

    A loss of exactly 0 counts as 1e-20, so that s_i falls no further than its logarithm. Losses must not be negative.
    """

    linear = True

    def start(self, tasks: int) -> None:
        """One s_i a task."""
        self.log_variances = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(tasks)])

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The sum of the losses [T'], weighted, and of the log-variances."""
        log_variances = torch.stack([self.log_variances[task] for task in step.present.tolist()])
        return 0.5 * ((-log_variances).exp() * raised(losses) + log_variances).sum()
