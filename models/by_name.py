"""Modules under the user's own names."""

from collections.abc import ItemsView, ValuesView
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


class ModulesByName(nn.ModuleDict, Generic[M]):
    """A ModuleDict of one kind of module, under any names: also those that nn.Module has, as `train` or `type`."""

    def __setitem__(self, key: str, module: nn.Module) -> None:
        self._modules[key] = module  # add_module refuses such names, for the sake of those who read items as attributes

    def __getitem__(self, key: str) -> M:
        return cast(M, super().__getitem__(key))

    def items(self) -> ItemsView[str, M]:
        """Names and modules."""
        return cast(ItemsView[str, M], super().items())

    def values(self) -> ValuesView[M]:
        """Modules."""
        return cast(ValuesView[M], super().values())
