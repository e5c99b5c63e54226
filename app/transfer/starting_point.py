"""Where a new training starts from: our own checkpoint's weights, and what of the network begins anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from app.network.layers import HEAD, head_layer, is_head
from models.errors import ConfigurationError

TRUNK, TASKS = "sharing.", "tasks."  # how the names of what is below the heads, and of what else tasks have, begin
NETWORK = "network."  # and of all of it in a checkpoint
DECISION = ".decision."  # in those of what validation sets, which a head may be without
KEY = "model.init_from"
OURS = (TRUNK, HEAD, TASKS)
State = dict[str, Tensor]


@dataclass
class StartingPoint:
    """Weights that a new training takes from elsewhere or draws anew, once, before its first step.

    Args:
        init_from: A checkpoint, of which all that fits is taken.
        reset_head: Take no heads.
        reset_layers: How many of the backbone's last layer groups are drawn anew.
        groups: Layer → names of its parameters below the heads, from input to output.
        fresh: Builds what is below the heads, without pretrained weights.
        read: Gives the content of a checkpoint, by its path and what the configuration calls it.
        relabelled: By the content, the path and the key, tells the tasks whose labels have other classes or units
            there; their heads begin anew.

    Attributes:
        given: Names of the parameters whose values are a starting point, and not drawn; known once it is applied.
    """

    init_from: str | None
    reset_head: bool
    reset_layers: int
    groups: Mapping[str, Sequence[str]]
    fresh: Callable[[], nn.Module]
    read: Callable[[Path, str], Mapping[str, Any]]
    relabelled: Callable[[Mapping[str, Any], Path, str], set[str]]
    given: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what says nothing.

        Raises:
            ValueError: The heads of no checkpoint are to be left.
        """
        if self.reset_head and self.init_from is None:
            raise ConfigurationError("model.reset_head", "needs model.init_from, whose heads it leaves", "true")

    def apply(self, network: nn.Module, tasks: Iterable[str], seed: int) -> list[str]:
        """Set the weights of the network in place; equal on all ranks, and no random generator moves.

        Args:
            network: Has what is below the heads as `sharing`, a `Sharing`, and by task `heads` and `tasks`.
            tasks: Names of the tasks.
            seed: Of what is drawn anew.

        Returns:
            What was done, line by line; nothing if there was nothing to do.

        Raises:
            ValueError: There are not so many layer groups; or the checkpoint cannot be read, has nothing of what is
                below the heads, or has it in another shape.
        """
        structure = {f"{TRUNK}{name}" for name in cast(Any, network.sharing).structure}
        state = {name: x for name, x in _ours(network.state_dict()).items() if name not in structure}
        layers = _layers(state, self.groups, tasks)
        last = self._last_groups([layer for layer in self.groups if layer.startswith("backbone.")])
        anew = {name: x for name, x in state.items() if layers[name] in last}
        lines = _lines("reset", anew, layers)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # and not that of a device
            drawn = self.fresh().state_dict() if anew else {}
        for name, x in anew.items():
            x.copy_(drawn[name.removeprefix(TRUNK)])
        taken = {name: x for name, x in state.items() if name.startswith(TRUNK) and name not in anew}
        if self.init_from is not None:
            wanted = {name: x for name, x in state.items() if name not in anew}
            taken, report = self._take(self.init_from, wanted, layers)
            lines = [f"model.init_from: {self.init_from}", *report, *lines]
        self.given = [name for name, _ in network.named_parameters() if name in taken]
        return lines

    def _last_groups(self, groups: Sequence[str]) -> Sequence[str]:
        """The groups that are drawn anew."""
        if not 0 <= self.reset_layers <= len(groups):
            raise ConfigurationError(
                "model.reset_layers",
                f"must be from 0 to {len(groups)}, the backbone's layer groups ({', '.join(groups)})",
                self.reset_layers,
            )
        return groups[len(groups) - self.reset_layers :]

    def _take(self, path: str, wanted: State, layers: dict[str, str]) -> tuple[State, list[str]]:
        """Copy what fits; what that was, and a line a layer."""
        content = self.read(Path(path), KEY)
        found = _ours(_of_network(content["state_dict"]))
        _check_trunk(found, wanted, path)
        other = set() if self.reset_head else self.relabelled(content, Path(path), KEY)
        heads = set() if self.reset_head else _same_heads(found, wanted, layers) - set(map(head_layer, other))
        fits = [name for name in wanted if name in found and (name.startswith(TRUNK) or layers[name] in heads)]
        for name in fits:
            wanted[name].copy_(found[name])
        taken = {name: wanted[name] for name in fits}
        left = {name: x for name, x in found.items() if name not in taken}
        new = {name: x for name, x in wanted.items() if name not in taken}
        report = [("taken", taken, layers), ("left in the file", left, _guessed(left) | layers), ("new", new, layers)]
        why = [f"  {head_layer(task)}: of other classes or another unit in the file" for task in sorted(other)]
        return taken, [*why, *(line for what, tensors, of in report for line in _lines(what, tensors, of))]


def _of_network(state: Mapping[str, Tensor]) -> State:
    """What a checkpoint has of the network, by the names that it has there."""
    return {name.removeprefix(NETWORK): x for name, x in state.items() if name.startswith(NETWORK)}


def _ours(state: Mapping[str, Tensor]) -> State:
    """What may be taken, from input to output."""
    return {name: state[name] for beginning in OURS for name in state if name.startswith(beginning)}


def _check_trunk(found: State, wanted: State, path: str) -> None:
    """Refuse a file whose weights below the heads are of another network."""
    names = [name for name in wanted if name in found and name.startswith(TRUNK)]
    if not names:
        have, want = (next((name for name in each if name.startswith(TRUNK)), "nothing") for each in (found, wanted))
        raise ConfigurationError(
            "model.init_from",
            "must hold weights that fit below the heads",
            f"none in {path}: it has {have}, …; the network wants {want}, …",
        )
    for name in names:
        if found[name].shape != wanted[name].shape:
            raise ConfigurationError(
                "model.init_from",
                f"{name} must be {tuple(wanted[name].shape)}, as the configured network has it",
                f"{tuple(found[name].shape)} in {path}",
            )


def _same_heads(found: State, wanted: State, layers: dict[str, str]) -> set[str]:
    """The tasks' layers that have all their tensors in the file, of the same shapes."""
    differ = {
        layers[name]
        for name, x in wanted.items()
        if DECISION not in name and (name not in found or found[name].shape != x.shape)
    }
    return {layers[name] for name in wanted if is_head(layers[name])} - differ


def _layers(state: State, groups: Mapping[str, Sequence[str]], tasks: Iterable[str]) -> dict[str, str]:
    """Name of a tensor → its layer; a buffer has the deepest one of the innermost module with parameters around it."""
    layers = {f"{TRUNK}{name}": layer for layer, names in groups.items() for name in names}
    depths = {name: depth for depth, names in enumerate(groups.values()) for name in (f"{TRUNK}{n}" for n in names)}
    for task in sorted(tasks, key=len):  # the longest name that fits is the task's
        own = (f"{HEAD}{task}.", f"{TASKS}{task}.")
        layers |= {name: head_layer(task) for name in state if name.startswith(own)}
    for name in state.keys() - layers.keys():
        modules = accumulate(name.split(".")[:-1], "{}.{}".format)
        around = [[p for p in depths if p.startswith(f"{module}.")] for module in modules]
        owners = next((each for each in reversed(around) if each), [])
        layers[name] = layers[max(owners, key=depths.__getitem__)] if owners else TRUNK.removesuffix(".")
    return {name: layers[name] for name in state}


def _guessed(names: Iterable[str]) -> dict[str, str]:
    """Name of a tensor that the network does not have → what to call its layer."""
    return {name: ".".join(name.replace(TASKS, HEAD, 1).split(".")[:2]) for name in names}


def _lines(what: str, tensors: State, layers: Mapping[str, str]) -> list[str]:
    """A line a layer."""
    sizes: dict[str, list[int]] = {}
    for name, x in tensors.items():
        sizes.setdefault(layers[name], []).append(x.numel())
    return [f"  {what}: {layer}, {len(own)} tensors of {sum(own):,} numbers" for layer, own in sizes.items()]
