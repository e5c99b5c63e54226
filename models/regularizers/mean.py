"""Tasks that are near their mean."""

from collections.abc import Sequence

from torch import Tensor

from models.regularizers.base import SmoothRegularizer, cosines, vectors


class MeanRegularized(SmoothRegularizer):
    """λ Σ_t ‖a_t − ā‖²: Evgeniou & Pontil, "Regularized multi-task learning" (2004).

    A step of SGD at the rate η shrinks the distance to the mean by 1 − 2ηλ.
    """

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""
        a = vectors(weights)
        return self.strength * (a - a.mean(dim=1, keepdim=True)).square().sum()

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The mean distance to the mean, and the cosines of the tasks' weights."""
        a = vectors(weights)
        return {"distance": (a - a.mean(dim=1, keepdim=True)).norm(dim=0).mean(), "cosine": cosines(a)}
