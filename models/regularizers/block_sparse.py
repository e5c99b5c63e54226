"""Inputs that no task reads."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from models.regularizers.base import ProximalRegularizer, assign, joined


class BlockSparse(ProximalRegularizer):
    """λ Σ_d ‖A_d‖_q over the rows of A [D, Σ outputs], one an input: a row is zero for all tasks or for none.

    q = 2: Yuan & Lin, "Model selection and estimation in regression with grouped variables" (2006); Argyriou et al.,
    "Multi-Task Feature Learning" (2007). q = ∞: Negahban & Wainwright, "Joint support recovery under high-dimensional
    scaling" (2008). The proximal step of size η is (1 − ηλ/‖a‖)₊ a, or a − Π(a) with the projection Π onto the ℓ1 ball
    of radius ηλ. Where a task is absent, the step of the row is the same, and the others alone take it.
    """

    def __init__(
        self,
        strength: float,
        q: Literal[2, "inf"] = 2,
        tasks: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        """Keep the options.

        Args:
            strength: λ.
            q: the norm of a row.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: λ is negative or not finite.
        """
        super().__init__(strength, tasks, layer)
        self.q = q

    def shrink(self, weights: Sequence[Tensor], present: Sequence[bool], steps: Tensor) -> None:
        """Take the proximal step of every row; see `ProximalRegularizer.shrink`."""
        step = shrink_rows if self.q == 2 else clip_rows
        assign(weights, step(joined(weights), self.strength * steps), present)

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The number of rows that are zero."""
        return {"zero_rows": zero_rows(joined(weights))}


def shrink_rows(a: Tensor, radii: Tensor) -> Tensor:
    """The proximal map of Σ_d r_d ‖A_d‖₂ at A [D, n], of radii r [D]."""
    norms = a.norm(dim=1)
    factors = torch.where(norms > radii, 1 - radii / norms.where(norms > 0, 1), 0.0)
    return factors[:, None] * a


def clip_rows(a: Tensor, radii: Tensor) -> Tensor:
    """The proximal map of Σ_d r_d ‖A_d‖_∞ at A [D, n]: a − Π(a), the entries clipped at a level for each row.

    The level θ has Σ (|a| − θ)₊ = r: Duchi et al., "Efficient Projections onto the ℓ1-Ball" (2008), fig. 1.
    """
    sizes = a.abs()
    descending = sizes.sort(dim=1, descending=True).values
    number = torch.arange(1, a.shape[1] + 1, device=a.device)
    levels = (descending.cumsum(dim=1) - radii[:, None]) / number
    last = (descending > levels).sum(dim=1, keepdim=True).clamp(min=1) - 1
    level = levels.gather(1, last).clamp(min=0)
    level = torch.where(sizes.sum(dim=1, keepdim=True) > radii[:, None], level, 0.0)
    return torch.where(radii[:, None] > 0, a.sign() * sizes.minimum(level), a)


def shrink_entries(a: Tensor, radii: Tensor) -> Tensor:
    """The proximal map of Σ_d r_d ‖A_d‖₁ at A [D, n]."""
    return a.sign() * (a.abs() - radii[:, None]).clamp(min=0)


def zero_rows(a: Tensor) -> Tensor:
    """The number of rows of A [D, n] without another entry than zero."""
    return (a == 0).all(dim=1).sum()
