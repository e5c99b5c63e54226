"""Batch normalisation in which every task's rows are a batch of their own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class StatisticsByTask(TorchFunctionMode):
    """While active, batch normalisation in training normalises consecutive blocks of rows one by one.

    Scale and shift are laid out a row a task, [T, C], before they are applied, so that the gradient of that layout
    holds every task's. Running statistics are updated once a block.

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
        options = {"training": True, "momentum": kwargs["momentum"], "eps": kwargs["eps"]}
        parts = zip(x.split(self.sizes), self._by_task(kwargs["weight"]), self._by_task(kwargs["bias"]), strict=True)
        return torch.cat([func(part, mean, variance, scale, shift, **options) for part, scale, shift in parts])

    def _by_task(self, value: Tensor | None) -> Iterable[Tensor | None]:
        if value is None:
            return [None] * len(self.sizes)
        return value.expand(len(self.sizes), -1).unbind()
