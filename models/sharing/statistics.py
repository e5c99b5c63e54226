"""Batch normalisation in which every task's rows are a batch of their own."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class StatisticsByTask(TorchFunctionMode):
    """While active, batch normalisation in training normalises consecutive blocks of rows one by one.

    Scale and shift are laid out a row a task, [T, C], before they are applied, so that the gradient of that layout
    holds every task's. Running statistics are updated once a block; a block of a single value a channel is normalised
    by them, and does not move them.

    Args:
        sizes: rows of each block.
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
        kwargs = kwargs or {}
        if func is not F.batch_norm or not kwargs["training"]:
            return func(*args, **kwargs)
        x, mean, variance = args
        options = {"momentum": kwargs["momentum"], "eps": kwargs["eps"]}
        parts = zip(x.split(self.sizes), self._by_task(kwargs["weight"]), self._by_task(kwargs["bias"]), strict=True)
        return torch.cat([_normalised(part, mean, variance, scale, shift, options) for part, scale, shift in parts])

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
        """Call the function; normalise by the running statistics where there is a single value a channel."""
        kwargs = kwargs or {}
        if func is not F.batch_norm or not kwargs["training"]:
            return func(*args, **kwargs)
        x, mean, variance = args
        options = {"momentum": kwargs["momentum"], "eps": kwargs["eps"]}
        return _normalised(x, mean, variance, kwargs["weight"], kwargs["bias"], options)


def statistics_of(rows: int) -> AbstractContextManager[Any]:
    """What batch normalisation of so many rows is to be done in: a single row may be a single value a channel."""
    return StatisticsOfOne() if rows == 1 else nullcontext()


def _normalised(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    options: Mapping[str, float],
) -> Tensor:
    """A batch [B, C, ...] normalised by its statistics, or by the running ones [C] where it has one value a channel."""
    alone = x.numel() == x.shape[1] and mean is not None
    return F.batch_norm(x, mean, variance, scale, shift, training=not alone, **options)
