"""Weights that are in part common to the tasks and in part a task's own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.regularizers.base import ProximalRegularizer, assign, joined
from models.regularizers.block_sparse import clip_rows, shrink_entries, zero_rows


class Dirty(ProximalRegularizer):
    """A = S + B with λ_s Σ |S_dt| + λ_b Σ_d ‖B_d‖_∞: single entries of S and whole rows of B are zero.

    Jalali et al., "A Dirty Model for Multi-task Learning" (2010), eq. 1. The parts are buffers, and the network has
    their sum. Both have the gradient of A, so that what the optimizer moved A by is half of what it would move each
    part by at half of the rate, at which both take their proximal steps: that is proximal gradient descent on (S, B) at
    the step η/2. They begin as halves of the weights. It says something for λ_s < λ_b < n λ_s with n columns.
    """

    sparse: Tensor
    block: Tensor

    def __init__(
        self, strength: float, block_strength: float, tasks: Sequence[str] | None = None, layer: str | None = None
    ) -> None:
        """Keep the options.

        Args:
            strength: λ_s.
            block_strength: λ_b.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: one of them is negative or not finite.
        """
        super().__init__(strength, tasks, layer)
        self.check_strength("block_strength", block_strength)
        self.block_strength = block_strength

    def start(self, tasks: list[str], shapes: list[torch.Size]) -> None:
        """Create the parts.

        Raises:
            ValueError: with so many columns one of the two parts is always zero.
        """
        super().start(tasks, shapes)
        columns = sum(shape[0] for shape in shapes)
        if not self.strength < self.block_strength < columns * self.strength:
            raise ConfigurationError(
                self.key("block_strength"),
                f"must be between strength and {columns} times it, else one of the parts is always zero",
                f"{self.block_strength} with strength {self.strength}",
            )
        for part in ("sparse", "block"):
            self.register_buffer(part, torch.zeros(shapes[0][1:].numel(), columns))

    def begin(self, weights: Sequence[Tensor]) -> None:
        """Divide the weights evenly, unless the parts are already theirs."""
        a = joined(weights)
        if not torch.equal(self.sparse + self.block, a):
            self.sparse.copy_(a / 2)
            self.block.copy_(a / 2)

    def shrink(self, weights: Sequence[Tensor], present: Sequence[bool], steps: Tensor) -> None:
        """Take the proximal steps of both parts; see `ProximalRegularizer.shrink`."""
        moved = (joined(weights) - self.sparse - self.block) / 2
        sparse = shrink_entries(self.sparse + moved, self.strength * steps / 2)
        block = clip_rows(self.block + moved, self.block_strength * steps / 2)
        here = torch.cat([torch.full((len(weight),), p) for weight, p in zip(weights, present, strict=True)])
        for part, value in ((self.sparse, sparse), (self.block, block)):
            part.copy_(value.where(here.to(part.device), part))
        assign(weights, self.sparse + self.block, present)

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The numbers of zero rows of B, and of entries of S that are not zero."""
        return {"zero_rows": zero_rows(self.block), "own_entries": (self.sparse != 0).sum()}
