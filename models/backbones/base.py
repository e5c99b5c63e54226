"""What every backbone answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Shape = tuple[int, ...] | dict[str, tuple[int, ...]]  # of one row, or by modality
Inputs = Tensor | dict[str, Tensor]


class Backbone(nn.Module, ABC):
    """A network as a chain of stages, without a classifier.

    Each stage gives a feature, [B, C] (vector), [B, N, C] (tokens) or [B, C, H, W] (map), which is the next stage's
    input. The last stage gives the embedding [B, C] that the network's own classifier would read.

    The first argument of a subclass is `input_shape`, the shape of one sample without the batch dimension; it comes
    from the data, all other arguments from the config. One that can load pretrained weights does so only if
    `wants_pretrained_weights()`.

    Attributes:
        channels: the C of every stage's feature.
        input_dtype: the type of the numbers that it reads, int64 where these are indices; None for real ones.
        drawn_anew: whether its weights are drawn in any case, and no trained network's.
    """

    channels: list[int]
    input_dtype: torch.dtype | None = None
    drawn_anew: bool = False
    _compiled: list[Callable[[Tensor], Tensor]] | None = None

    @property
    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """The stages, in the order in which they are applied."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the inputs [B, *input_shape], one a stage."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def stage_calls(self) -> list[Callable[[Tensor], Tensor]]:
        """What applies each stage, for a caller that does something between them; compiled, if that was asked for."""
        return self._compiled or list(self.stages)

    def compile_stages(self) -> None:
        """Compile every stage by `torch.compile`, for `stage_calls`."""
        self._compiled = [torch.compile(stage) for stage in self.stages]

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """Names of the parameters by depth, from input to output: a partition of `named_parameters()`.

        Here a group is a stage that has parameters.

        Args:
            coarse: few large groups rather than many small ones, where a network knows both.

        Returns:
            Group name → names of its parameters.
        """
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        groups = {f"stage{i}": [names[id(p)] for p in stage.parameters()] for i, stage in enumerate(self.stages)}
        return {name: parameters for name, parameters in groups.items() if parameters}

    def compared_weights(self) -> list[nn.Parameter]:
        """The trained weights of the last layer: here the last matrix among the parameters."""
        return last_trained_matrix(self.parameters())

    def blank(self, input_shape: Shape, rows: int) -> Inputs:
        """A batch of `rows` rows of zeros, as the network reads them."""
        return zeros(input_shape, rows, self.input_dtype)


def zeros(input_shape: Shape, rows: int, dtype: torch.dtype | None = None) -> Inputs:
    """A batch of `rows` rows of zeros, of each modality if there are several."""
    if isinstance(input_shape, dict):
        return {modality: torch.zeros(rows, *shape, dtype=dtype) for modality, shape in input_shape.items()}
    return torch.zeros(rows, *input_shape, dtype=dtype)


def last_trained_matrix(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The last of the parameters that is trained and has more than one dimension, if there is one."""
    return [parameter for parameter in parameters if parameter.requires_grad and parameter.ndim > 1][-1:]
