"""Sums over the ranks of one optimizer step, in place of DistributedDataParallel's reducer.

The reducer expects every rank to reach every parameter and knows only what was trainable when it was built, so a task
absent from one rank, or a layer thawed later, breaks it. Here every rank sends the gradient of every trainable
parameter, zeros where it has none, and beside it whether it has one: a parameter that no rank reached keeps None.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

BUCKET_BYTES = 64 * 2**20


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every `.grad` by its sum over the ranks, equal bit for bit on all of them.

    Losses are divided by the labelled rows of the whole step beforehand, so the sum is the step's gradient. Moves
    one all-reduce of the parameters' size and, for a bucket of 64 MiB, holds one copy of it.

    Args:
        parameters: The trainable parameters, the same on every rank and in the same order.
    """
    by_kind = groupby(parameters, key=lambda parameter: (parameter.device, parameter.dtype))
    for bucket in (bucket for _, kind in by_kind for bucket in _buckets(list(kind))):
        _sum_bucket(bucket)


def average_running_statistics(module: nn.Module) -> None:
    """Replace the running mean and variance of every BatchNorm by their mean over the ranks.

    The statistics are moving averages, so the mean of the ranks' is the moving average of the mean; it is exact for
    the mean, and for the variance leaves out that the ranks' means differ, as averaging always does.
    """
    buffers = [
        buffer
        for norm in module.modules()
        if isinstance(norm, _NormBase) and norm.training and norm.track_running_stats
        for buffer in (norm.running_mean, norm.running_var)
        if buffer is not None
    ]
    if not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, mean in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def _buckets(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Consecutive parameters, up to `BUCKET_BYTES` together."""
    buckets: list[list[nn.Parameter]] = [[]]
    size = 0
    for parameter in parameters:
        size += parameter.numel() * parameter.element_size()
        if size > BUCKET_BYTES and buckets[-1]:
            buckets.append([])
            size = parameter.numel() * parameter.element_size()
        buckets[-1].append(parameter)
    return buckets


def _sum_bucket(parameters: list[nn.Parameter]) -> None:
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    reached = gradients[0].new_tensor([p.grad is not None for p in parameters])
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), reached])
    dist.all_reduce(flat)
    *sums, reached = torch.split(flat, [*(p.numel() for p in parameters), len(parameters)])
    for parameter, total, anywhere in zip(parameters, sums, reached.tolist(), strict=True):
        parameter.grad = total.view_as(parameter) if anywhere else None
