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

    They are counted for a part of the batch and for twice that part, of which those of the whole follow: what is
    computed once a step, such as weights of their factors, is divided among all rows.

    Args:
        network: It is left as it is.
        feeds: [T, B] bool: which rows of a batch feed which task.
    """
    sizes = feeds.sum(dim=1)
    part = feeds[:, :: max(int(sizes[sizes > 0].min()) // FEW, 1)]
    once, twice = _of_a_pass(network, part), _of_a_pass(network, torch.cat([part, part], dim=1))
    return (twice - once) / part.shape[1] + (2 * once - twice) / feeds.shape[1]


def _of_a_pass(network: Network, feeds: Tensor) -> float:
    """Multiply-adds of a forward pass of a batch whose rows feed tasks so, [T, B]."""
    rows = {name: fed.nonzero().squeeze(1) for name, fed in zip(network.tasks, feeds, strict=True) if fed.any()}
    copied = deepcopy(network).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        copied(copied.sharing.blank(network.input_shape, feeds.shape[1]), rows)
    operations: int = counter.get_total_flops()  # a multiply-add is two
    return operations / 2


def and_of_hard_sharing(network: Network, feeds: Tensor) -> tuple[float, float]:
    """Multiply-adds a row of a network, and of the same with hard sharing."""
    return multiply_adds(network, feeds), multiply_adds(network.hard_shared(), feeds)
