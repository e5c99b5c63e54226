"""Sums over the ranks of one optimizer step, in place of DistributedDataParallel's reducer.

The reducer expects every rank to reach every parameter and knows only what was trainable when it was built, so a task
absent from one rank, or a layer thawed later, breaks it. Here the ranks first tell which parameters they have reached,
then each sends the gradients of those that any has, zeros where it has none itself; what none has reached keeps None.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import torch
from torch import nn

from app.ranks.collectives import several, sum_over_ranks

BUCKET_BYTES = 64 * 2**20


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every `.grad` by its sum over the ranks, equal bit for bit on all of them.

    Losses are divided by the labelled rows of the whole step beforehand, so the sum is the step's gradient. Moves
    one all-reduce of a number a parameter and one of the gradients, of which it holds a second copy, 64 MiB at a time.

    Args:
        parameters: The trainable parameters, the same on every rank and in the same order.
    """
    parameters = list(parameters)
    if parameters and several():
        _sum_buckets(parameters)


def _sum_buckets(parameters: list[nn.Parameter]) -> None:
    """Sum the gradients of those of the parameters that any rank has reached, bucket by bucket. Collective."""
    reached = reached_anywhere([p.grad is not None for p in parameters], parameters[0].device)
    parameters = [parameter for parameter, anywhere in zip(parameters, reached, strict=True) if anywhere]
    by_kind = groupby(parameters, key=lambda parameter: (parameter.device, parameter.dtype))
    for bucket in (bucket for _, kind in by_kind for bucket in _buckets(list(kind))):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        sum_over_ranks(flat)
        for parameter, total in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
            parameter.grad = total.view_as(parameter)


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


def reached_anywhere(reached: list[bool], device: torch.device) -> list[bool]:
    """Of each parameter, whether any rank has reached it; for all at once, since the answer is waited for."""
    flags = torch.tensor(reached, dtype=torch.float32, device=device)
    sum_over_ranks(flags)
    return [count > 0 for count in flags.tolist()]
