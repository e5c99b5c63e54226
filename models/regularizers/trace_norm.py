"""Tasks whose weights lie in few directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.regularizers.base import SmoothRegularizer, joined

SMALL = 1e-3  # of the largest singular value, below which one counts as none


class TraceNorm(SmoothRegularizer):
    """λ ‖A‖_* = λ Σ_k σ_k(A) of the joined columns A [D, Σ outputs]: few directions of the input are read.

    Argyriou, Evgeniou & Pontil, "Convex Multi-Task Feature Learning" (2008). It follows a subgradient, so that singular
    values become small and not exactly zero.
    """

    equal_shapes = False

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""
        norm: Tensor = torch.linalg.matrix_norm(joined(weights), "nuc")
        return self.strength * norm

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The rank, of singular values above a thousandth of the largest."""
        values = torch.linalg.svdvals(joined(weights))
        return {"rank": (values > SMALL * values[0]).sum()}
