"""One backbone that is told whose rows it sees."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from models.backbones import BackboneBuilder
from models.backbones.base import Inputs, Shape
from models.backbones.base import zeros as blank_rows
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.base import Sharing
from models.sharing.descriptors import Descriptor, described
from models.sharing.own import Numbers, along_channels, zeros
from models.sharing.rows import RowsOf, size_of, take, take_inputs
from models.sharing.statistics import statistics_of

Place = int | Literal["input"]
INPUT = -1  # the place below the first stage, where places are numbers


class Conditioned(Sharing):
    """One backbone, whose activations h are changed by a description z_t of the task, at chosen places.

    `film`: h ⊙ (1 + V_γ z_t) + V_β z_t; `add`: h + V_β z_t. Dumoulin et al., "Feature-wise transformations" (2018);
    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer" (2018). What is added after a linear layer
    is what a concatenation [h; z_t] below it gives. V begins with zeros: with hard sharing. With a one-hot z_t a task's
    columns of V are its own numbers. Above the first place each task's rows pass by themselves: single-input data cost
    as many passes from there on as there are tasks.

    z may also be of a row and not of its task: a modality of the inputs, which the backbone then does not see. Then
    everything is shared, and all rows pass together.
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
        modality: str | None = None,
    ) -> None:
        """Build the backbone.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            by: how h is changed.
            after: stages after which it is, -1 for the last; or `input`.
            descriptor: z_t: one-hot, `learned` numbers of each task, or task → given numbers, or a YAML or JSON file of
                these, of `width` each, which a trained network keeps.
            width: how many numbers are learned, or are in a file.
            modality: in place of descriptions of tasks, the modality of the inputs that describes each row.

        Raises:
            ValueError: there is no such place or modality, or a description is missing, unknown or of another width.
        """
        super().__init__()
        self.tasks, self.modality = tasks, modality
        if modality is not None:
            _check_modality(modality, backbone.input_shape, descriptor)
        seen = self.seen(backbone.input_shape)
        self.backbone = backbone(seen)
        self.channels = dict.fromkeys(tasks, self.backbone.channels)
        places = sorted({_place(place, len(self.backbone.channels)) for place in after})
        if not places:
            raise ConfigurationError("model.sharing.after", "must name a place", "[]")
        sizes = [_channels_of(seen) if place == INPUT else self.backbone.channels[place] for place in places]
        parts, self.first = 2 if by == "film" else 1, places[0]
        self.described = None if modality is not None else described(descriptor, tasks, width)
        numbers = None if self.described is None else len(self.described[tasks[0]].values)
        if modality is not None:
            assert isinstance(backbone.input_shape, dict)
            (numbers,) = backbone.input_shape[modality]
        changes = {place: Change(tasks, (parts, size), numbers) for place, size in zip(places, sizes, strict=True)}
        self.changes = ModulesByName[Change]({str(place): change for place, change in changes.items()})

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        if self.modality is not None:
            return self._by_row(inputs, rows)
        calls, x, lower = self.backbone.stage_calls(), inputs, list[Tensor]()
        with statistics_of(size_of(inputs), self.training):
            for call in calls[: self.first + 1]:
                x = call(x)  # type: ignore[arg-type]  # what the first stage reads
                lower.append(x)
        features = {}
        for task, own in rows.items():
            with statistics_of(own.shape[0], self.training):
                z = self.described[task].values if self.described else None
                upper = self._upper(take_inputs(x, own), task, z, self.first)
            features[task] = [*(take(each, own) for each in lower[: self.first]), *upper]
        return features

    def _by_row(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of all rows, which are described one by one, and of them each task's."""
        assert isinstance(inputs, dict)
        assert self.modality is not None
        rest = {name: x for name, x in inputs.items() if name != self.modality}
        x: Inputs = rest if len(rest) > 1 else next(iter(rest.values()))
        with statistics_of(size_of(inputs), self.training):
            features = self._upper(x, self.tasks[0], inputs[self.modality], INPUT)
        return {task: RowsOf(features, own) for task, own in rows.items()}

    def _upper(self, x: Inputs, task: str, z: Tensor | None, first: int) -> list[Tensor]:
        """Features from a place on, of a task's rows there and their description; the input is none."""
        features, calls = list[Tensor](), self.backbone.stage_calls()
        for place in range(first, len(calls)):
            if place > first:
                x = calls[place](x)  # type: ignore[arg-type]  # what the first stage reads
            if str(place) in self.changes:
                assert isinstance(x, Tensor)
                x = self.changes[str(place)](x, task, z)
            if place != INPUT:
                assert isinstance(x, Tensor)
                features.append(x)
        return features

    def seen(self, input_shape: Shape) -> Shape:
        """All but the modality that describes rows."""
        if self.modality is None:
            return input_shape
        assert isinstance(input_shape, dict)
        rest = {name: each for name, each in input_shape.items() if name != self.modality}
        return rest if len(rest) > 1 else next(iter(rest.values()))

    def blank(self, input_shape: Shape, rows: int) -> Inputs:
        """Zeros, as the backbone reads them, and of the modality that describes them."""
        if self.modality is None:
            return super().blank(input_shape, rows)
        assert isinstance(input_shape, dict)
        seen, whole = self.backbone.blank(self.seen(input_shape), rows), blank_rows(input_shape, rows)
        assert isinstance(whole, dict)
        return whole | (seen if isinstance(seen, dict) else {name: seen for name in whole if name != self.modality})

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
        """Rows of a task, [B, ...], changed; `description` [d], or [B, d] by row, is None where it is one-hot."""
        numbers = self.each[task].values if self.linear is None else self.linear(description).unflatten(-1, self.shape)
        *scale, shift = (along_channels(each, x) for each in numbers.unbind(-2))
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


def _channels_of(shape: Shape) -> int:
    """Channels of the input."""
    if isinstance(shape, dict):
        raise ConfigurationError("model.sharing.after", "input must be of one modality to be changed", f"{[*shape]}")
    return shape[0]


def _check_modality(modality: str, shape: Shape, descriptor: Descriptor) -> None:
    """Refuse a modality that cannot describe rows of inputs of this shape."""
    key = "model.sharing.modality"
    if descriptor != "one_hot":
        rule = "takes the place of model.sharing.descriptor"
        raise ConfigurationError(key, rule, f"{modality!r} beside {descriptor}")
    if not isinstance(shape, dict) or len(shape) < 2:
        raise ConfigurationError(key, "needs inputs of several modalities", shape)
    if modality not in shape:
        raise ConfigurationError(key, f"must be among the inputs' modalities {[*shape]}", repr(modality))
    if len(shape[modality]) != 1:
        raise ConfigurationError(key, "must have rows of numbers", f"{modality!r} of shape {shape[modality]}")
