"""Tasks that read different directions."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from models.regularizers.base import SmoothRegularizer


class Orthogonality(SmoothRegularizer):
    """λ Σ_{t<s} ‖A_tᵀ A_s‖_F² with a task's columns A_t [D, outputs].

    Ruder et al., "Latent Multi-task Architecture Learning" (2019), §3, between the tasks' weights in place of a layer's
    subspaces. It pushes tasks apart that the other regularizers pull together.
    """

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""
        products = [w.flatten(1) @ v.flatten(1).mT for w, v in combinations(weights, 2)]
        return self.strength * torch.stack([each.square().sum() for each in products]).sum()

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """‖A_tᵀ A_s‖_F / √(‖A_tᵀ A_t‖_F ‖A_sᵀ A_s‖_F), 0 where tasks are orthogonal."""
        values = torch.stack([torch.stack([common(w, v) for v in weights]) for w in weights])
        scale = values.diagonal().sqrt()
        return {"overlap": values / (scale * scale[:, None]).clamp(min=torch.finfo(values.dtype).tiny)}


def common(first: Tensor, second: Tensor) -> Tensor:
    """‖A_tᵀ A_s‖_F of two tasks' weights [outputs, ...]."""
    return (first.flatten(1) @ second.flatten(1).mT).square().sum().sqrt()
