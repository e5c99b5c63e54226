"""One backbone that is told whose rows it sees."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.backbones import BackboneBuilder
from models.backbones.base import Inputs
from models.bounds import check_sizes
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.base import Sharing
from models.sharing.own import Numbers, along_channels, zeros
from models.sharing.rows import size_of, take, take_inputs
from models.sharing.statistics import statistics_of

Place = int | Literal["input"]
Descriptor = Literal["one_hot", "learned"] | dict[str, list[float]]
INPUT = -1  # the place below the first stage, where places are numbers


class Conditioned(Sharing):
    """One backbone, whose activations h are changed by a description z_t of the task, at chosen places.

    `film`: h ⊙ (1 + V_γ z_t) + V_β z_t; `add`: h + V_β z_t. Dumoulin et al., "Feature-wise transformations" (2018);
    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer" (2018). What is added after a linear layer
    is what a concatenation [h; z_t] below it gives. V begins with zeros: with hard sharing. With a one-hot z_t a task's
    columns of V are its own numbers. Above the first place each task's rows pass by themselves: single-input data cost
    as many passes from there on as there are tasks.
    """

    walks_stages = True

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        by: Literal["film", "add"] = "film",
        after: Sequence[Place] = (-1,),
        descriptor: Descriptor = "one_hot",
        width: int = 8,
    ) -> None:
        """Build the backbone.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            by: how h is changed.
            after: stages after which it is, -1 for the last; or `input`.
            descriptor: z_t: one-hot, `learned` numbers of each task, or task → given numbers.
            width: how many numbers are learned.

        Raises:
            ValueError: there is no such place, or a description is missing, unknown or of another width.
        """
        super().__init__()
        self.backbone, self.tasks = backbone(), tasks
        self.channels = dict.fromkeys(tasks, self.backbone.channels)
        places = sorted({_place(place, len(self.backbone.channels)) for place in after})
        if not places:
            raise ConfigurationError("model.sharing.after", "must name a place", "[]")
        sizes = [_channels_of(backbone) if place == INPUT else self.backbone.channels[place] for place in places]
        parts, self.first = 2 if by == "film" else 1, places[0]
        self.described = _described(descriptor, tasks, width)
        numbers = None if self.described is None else len(self.described[tasks[0]].values)
        changes = {place: Change(tasks, (parts, size), numbers) for place, size in zip(places, sizes, strict=True)}
        self.changes = ModulesByName[Change]({str(place): change for place, change in changes.items()})

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        calls, x, lower = self.backbone.stage_calls(), inputs, list[Tensor]()
        with statistics_of(size_of(inputs), self.training):
            for call in calls[: self.first + 1]:
                x = call(x)  # type: ignore[arg-type]  # what the first stage reads
                lower.append(x)
        features = {}
        for task, own in rows.items():
            with statistics_of(own.shape[0], self.training):
                upper = self._upper(task, take_inputs(x, own))
            features[task] = [*(take(each, own) for each in lower[: self.first]), *upper]
        return features

    def _upper(self, task: str, x: Inputs) -> list[Tensor]:
        """A task's features from the first place on, of its rows there; the input is none."""
        features, calls = list[Tensor](), self.backbone.stage_calls()
        for place in range(self.first, len(calls)):
            if place > self.first:
                x = calls[place](x)  # type: ignore[arg-type]  # what the first stage reads
            if str(place) in self.changes:
                assert isinstance(x, Tensor)
                x = self.changes[str(place)](x, task, self.described[task].values if self.described else None)
            if place != INPUT:
                assert isinstance(x, Tensor)
                features.append(x)
        return features

    def compared_weights(self) -> list[nn.Parameter]:
        """Those of the backbone's last layer."""
        return self.backbone.compared_weights()

    def shared_parameters(self) -> list[nn.Parameter]:
        """The backbone, and V where z_t is not one-hot."""
        own = {id(parameter) for task in self.tasks for parameter in self.task_parameters(task)}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """What is learned of the task: its z_t, or its columns of V."""
        described = [] if self.described is None else list(self.described[task].parameters())
        return described + [parameter for change in self.changes.values() for parameter in change.own(task)]


class Change(nn.Module):
    """Scales and shifts activations, by a task's own numbers or by a linear function of its description.

    Args:
        tasks: their names.
        shape: one row for shifts, or two for scales and shifts; and channels.
        described: how many numbers describe a task; None for a one-hot description.
    """

    def __init__(self, tasks: list[str], shape: tuple[int, int], described: int | None) -> None:
        super().__init__()
        self.shape = shape
        self.each = ModulesByName[Numbers]({task: zeros(*shape) for task in tasks if described is None})
        self.linear = None if described is None else nn.Linear(described, shape[0] * shape[1], bias=False)
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor, task: str, description: Tensor | None) -> Tensor:
        """Rows of a task, [B, ...], changed; `description` [d] is None where it is one-hot."""
        numbers = self.each[task].values if self.linear is None else self.linear(description).view(self.shape)
        *scale, shift = (along_channels(each, x) for each in numbers)
        return x * (1 + scale[0]) + shift if scale else x + shift

    def own(self, task: str) -> list[nn.Parameter]:
        """The task's own numbers, if there are some."""
        return list(self.each[task].parameters()) if task in self.each else []


def _place(place: Place, stages: int) -> int:
    """A place as a number from `INPUT` on."""
    if place == "input":
        return INPUT
    if not -stages <= place < stages:
        raise ConfigurationError("model.sharing.after", f"must be a stage from 0 to {stages - 1}, -1, or input", place)
    return place % stages


def _channels_of(backbone: BackboneBuilder) -> int:
    """Channels of the input."""
    if isinstance(backbone.input_shape, dict):
        rule = "input must be of one modality to be changed"
        raise ConfigurationError("model.sharing.after", rule, f"{[*backbone.input_shape]}")
    return backbone.input_shape[0]


def _described(descriptor: Descriptor, tasks: list[str], width: int) -> ModulesByName[Numbers] | None:
    """Task → its description, of those that are not one-hot."""
    if descriptor == "one_hot":
        return None
    if descriptor == "learned":
        check_sizes("model.sharing.width", [width])
        return ModulesByName[Numbers]({task: Numbers(torch.randn(width)) for task in tasks})
    given: dict[str, list[float]] = descriptor
    if given.keys() != {*tasks}:
        raise ConfigurationError("model.sharing.descriptor", f"must be of the tasks {tasks}", sorted(given))
    widths = {len(given[task]) for task in tasks}
    if len(widths) > 1 or 0 in widths:
        raise ConfigurationError("model.sharing.descriptor", "must have as many numbers for each task", sorted(widths))
    return ModulesByName[Numbers](
        {task: Numbers(torch.tensor(given[task], dtype=torch.float32), learned=False) for task in tasks}
    )
