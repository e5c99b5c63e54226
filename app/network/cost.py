"""What a forward pass of a network costs."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from app.network.network import Network

FEW = 2  # rows of the task with the fewest


def multiply_adds(network: Network, feeds: Tensor) -> float:
    """Multiply-adds of a forward pass in training, of products and convolutions alone, a row of the batch.

    Args:
        network: It is left as it is.
        feeds: [T, B] bool: which rows of a batch feed which task. Some of the rows stand for all.
    """
    sizes = feeds.sum(dim=1)
    feeds = feeds[:, :: max(int(sizes[sizes > 0].min()) // FEW, 1)]
    rows = {name: fed.nonzero().squeeze(1) for name, fed in zip(network.tasks, feeds, strict=True) if fed.any()}
    count = feeds.shape[1]
    copied = deepcopy(network).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        copied(copied.sharing.blank(network.input_shape, count), rows)
    operations: int = counter.get_total_flops()  # a multiply-add is two
    return operations / 2 / count


def and_of_hard_sharing(network: Network, feeds: Tensor) -> tuple[float, float]:
    """Multiply-adds a row of a network, and of the same with hard sharing."""
    return multiply_adds(network, feeds), multiply_adds(network.hard_shared(), feeds)
