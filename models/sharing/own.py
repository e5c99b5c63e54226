"""Numbers of one task."""

import torch
from torch import Tensor, nn


class Numbers(nn.Module):
    """A task's own numbers, of any shape: a parameter, or a buffer where they are given and not learned."""

    values: Tensor

    def __init__(self, start: Tensor, learned: bool = True) -> None:
        super().__init__()
        if learned:
            self.values = nn.Parameter(start)
        else:
            self.register_buffer("values", start)


def along_channels(numbers: Tensor, x: Tensor) -> Tensor:
    """One number, or one a channel [C] or a row and channel [B, C], as a factor of x.

    That is maps [B, C, H, W], tokens [B, N, C] or vectors [B, C].
    """
    if x.ndim == 4:
        return numbers.view(*(numbers.shape or (1,)), 1, 1)
    return numbers.unsqueeze(1) if x.ndim == 3 and numbers.ndim == 2 else numbers


def zeros(*shape: int) -> Numbers:
    """Learned numbers that begin with zeros."""
    return Numbers(torch.zeros(shape))
