"""Fixed weights: the baseline to beat."""

from torch import Tensor

from app.balancing.base import Scalarizer
from app.balancing.engine.step import Step


class FixedWeights(Scalarizer):
    """Σ L_i. The weights are those of `model.tasks.<task>.weight`, which every other balancer starts from too.

    Kurin et al., "In Defense of the Unitary Scalarization for Deep Multi-Task Learning" (2022); Xin et al., "Do Current
    Multi-Task Optimization Methods in Deep Learning Even Help?" (2022).
    """

    linear = True
    constant = True

    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The sum of the losses [T']."""
        return losses.sum()
