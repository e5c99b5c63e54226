"""Running statistics of batch normalisation, alike on all ranks."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from app.ranks.collectives import several, sum_over_ranks


class RunningStatistics:
    """The running means and variances of a module's batch normalisations, averaged over the ranks after each step.

    They are moving averages, so the mean of the ranks', by the rows that each has normalised in the step, is the moving
    average of the mean, and a rank without rows does not hold it back. It is exact for the mean, in a step of one
    micro-batch; for the variance it leaves out that the ranks' means differ, as averaging always does. The counts of
    batches become the largest of the ranks'.

    Args:
        module: The module, the same on every rank; where there are several, its rows are counted from now on, in
            training mode with gradients, until this is closed.
    """

    def __init__(self, module: nn.Module) -> None:
        norms = [each for each in module.modules() if isinstance(each, _NormBase) and each.track_running_stats]
        norms = norms if several() else []
        self._rows = [(norm, _buffers(norm)[0].new_zeros((), dtype=torch.float64)) for norm in norms]
        self._handles = [norm.register_forward_pre_hook(partial(_count, rows)) for norm, rows in self._rows]

    def close(self) -> None:
        """Count no longer."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def average(self) -> None:
        """Average, and begin to count anew. Collective; every rank has the same modules in training mode."""
        counted = [(norm, rows) for norm, rows in self._rows if norm.training]
        if not counted:
            return
        batches = [_buffers(norm)[2] for norm, _ in counted]
        mine = torch.stack([torch.stack([rows for _, rows in counted]), torch.stack(batches).double()])
        ranks = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(ranks, mine)
        rows, tracked = torch.stack(ranks).unbind(1)  # each [ranks, norms]
        total, first = rows.sum(0), float(dist.get_rank() == 0)
        shares = torch.where(total > 0, mine[0] / total.clamp(min=1), first)  # what no rank has moved stays as it is
        statistics = [_buffers(norm)[:2] for norm, _ in counted]
        _sum([buffer.mul_(share) for both, share in zip(statistics, shares, strict=True) for buffer in both])
        for count, most in zip(batches, tracked.amax(0), strict=True):
            count.copy_(most)
        for _, each in counted:
            each.zero_()


def _count(rows: Tensor, norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Count the rows of a call that moves running statistics: of one value a channel, none does."""
    x = inputs[0]
    if norm.training and torch.is_grad_enabled() and x.numel() > x.shape[1]:
        rows.add_(x.shape[0])


def _buffers(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Running mean, running variance and the count of batches."""
    mean, variance, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    assert isinstance(batches, Tensor)
    return mean, variance, batches


def _sum(tensors: list[Tensor]) -> None:
    """Replace tensors by their sums over the ranks."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    sum_over_ranks(flat)
    for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))
