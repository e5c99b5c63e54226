"""Batch normalisation in which every task's rows are a batch of their own."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.errors import ConfigurationError


class StatisticsByTask(TorchFunctionMode):
    """While active, batch normalisation in training normalises consecutive blocks of rows one by one.

    Scale and shift are laid out a row a task, [T, C], before they are applied, so that the gradient of that layout
    holds every task's. Running statistics are updated once a block; a block of a single value a channel is normalised
    by them, and does not move them.

    Args:
        sizes: rows of each block.

    Raises:
        ConfigurationError: a batch that is normalised has another number of rows, such as of pairs of them.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, cut into blocks where it is a batch normalisation that trains."""
        call = self._in_blocks if func is F.batch_norm else func
        return call(*args, **(kwargs or {}))

    def _in_blocks(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Batch normalisation of a batch [B, C, ...], as `torch.nn.functional.batch_norm` takes its arguments."""
        options = training, momentum, eps
        if training and len(x) != sum(self.sizes):
            rule = "task needs a backbone that keeps every row apart up to its batch normalisations"
            raise ConfigurationError("model.sharing.statistics", rule, f"{len(x)} rows of the {sum(self.sizes)}")
        if not training:
            return _normalised(x, mean, variance, weight, bias, *options)
        parts = zip(torch.split(x, self.sizes), self._by_task(weight), self._by_task(bias), strict=True)
        return torch.cat([_normalised(part, mean, variance, scale, shift, *options) for part, scale, shift in parts])

    def _by_task(self, value: Tensor | None) -> Iterable[Tensor | None]:
        if value is None:
            return [None] * len(self.sizes)
        return value.expand(len(self.sizes), -1).unbind()


class StatisticsOfOne(TorchFunctionMode):
    """While active, batch normalisation in training of a single value a channel takes the running statistics.

    Such a batch has no variance. The running statistics stay as they are. A normalisation without any raises a
    ValueError, as it does in torch.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function; by the running statistics where it is a batch normalisation of one value a channel."""
        call = _normalised if func is F.batch_norm else func
        return call(*args, **(kwargs or {}))


def statistics_of(rows: int, training: bool) -> AbstractContextManager[Any]:
    """What batch normalisation of so many rows is to be done in: a single row may be a single value a channel."""
    return StatisticsOfOne() if training and rows == 1 else nullcontext()


def _normalised(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation of a batch [B, C, ...]; by the running statistics where it trains on one value a channel.

    It is a compiled graph's too, which is run where the modes above are active: they know the functional's name alone.
    """
    alone = x.numel() == x.shape[1]
    if alone and training and mean is None:
        return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)  # which raises
    cudnn = torch.backends.cudnn.enabled
    return torch.batch_norm(x, weight, bias, mean, variance, training and not alone, momentum, eps, cudnn)
