"""Features that are computed only where they are read."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from torch import Tensor


class LazyFeatures(Sequence[Tensor]):
    """Features, one a stage, each computed when it is asked for: a head reads one or few of the stages."""

    @abstractmethod
    def at(self, stage: int) -> Tensor:
        """The feature of a stage, counted from 0."""

    @overload
    def __getitem__(self, stage: int) -> Tensor: ...

    @overload
    def __getitem__(self, stage: slice) -> list[Tensor]: ...

    def __getitem__(self, stage: int | slice) -> Tensor | list[Tensor]:
        """A stage's feature, or those of several."""
        chosen = range(len(self))[stage]
        return self.at(chosen) if isinstance(chosen, int) else [self.at(number) for number in chosen]
