"""Where a new training starts from: our own checkpoint's weights, and what of the network begins anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from app.network.layers import HEAD, head_layer, is_head
from app.transfer.sources import (
    EVERYONE,
    TRUNK,
    InitFrom,
    Move,
    State,
    check_tasks,
    key_of,
    paths_of,
    trunk_moves,
)
from models.errors import ConfigurationError
from models.sharing import Sharing

TASKS = "tasks."  # how the names of what else tasks have begin
NETWORK = "network."  # and of all of it in a checkpoint
DECISION = ".decision."  # in those of what validation sets, which a head may be without
OURS = (TRUNK, HEAD, TASKS)


@dataclass
class StartingPoint:
    """Weights that a new training takes from elsewhere or draws anew, once, before its first step.

    Args:
        init_from: A checkpoint, of which all that fits is taken; or one a task, and that of what several tasks share.
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

    init_from: InitFrom
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
            ValueError: There are not so many layer groups; or a checkpoint is of no task, cannot be read, has nothing
                of what is below the heads, or has it in another shape; or what several tasks share has none.
        """
        structure = {f"{TRUNK}{name}" for name in cast(Any, network.sharing).structure}
        state = {name: x for name, x in _ours(network.state_dict()).items() if name not in structure}
        layers = _layers(state, self.groups, tasks)
        last = self._last_groups([layer for layer in self.groups if layer.startswith("backbone.")])
        anew = {name: x for name, x in state.items() if layers[name] in last}
        lines = _lines("reset", anew, layers)
        with drawing(seed):
            drawn = self.fresh().state_dict() if anew else {}
        for name, x in anew.items():
            x.copy_(drawn[name.removeprefix(TRUNK)])
        taken = {name for name in state if name.startswith(TRUNK) and name not in anew}
        if self.init_from is not None:
            wanted = {name: x for name, x in state.items() if name not in anew}
            taken, report = self._take(cast(Any, network).sharing, wanted, layers, list(tasks), seed)
            lines = [*report, *lines]
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

    def _take(
        self, sharing: Sharing, wanted: State, layers: dict[str, str], tasks: list[str], seed: int
    ) -> tuple[set[str], list[str]]:
        """Copy what fits; the names of what was taken, and a line a layer."""
        paths = paths_of(self.init_from)
        check_tasks(paths, tasks)
        contents = {file: self.read(Path(path), key_of(file)) for file, path in paths.items()}
        found = {file: _ours(_of_network(content["state_dict"])) for file, content in contents.items()}
        copies = sharing.copies()
        of_copies, alike = trunk_moves(found, wanted, copies)
        moves = [*of_copies, *alike]
        for file, state in found.items():
            _check_trunk([move for move in moves if move.file == file], state, wanted, file, paths)
        heads, why = self._heads(contents, found, paths, wanted, layers, tasks)
        moves += heads
        for move in moves:
            move.to.copy_(move.source)
        if of_copies:
            with drawing(seed):
                sharing.follow(copies)
        taken = {name for move in moves for name in move.holds}
        new = {name: x for name, x in wanted.items() if name not in taken}
        return taken, [*_told(moves, found, paths, layers, why), *_lines("new", new, layers)]

    def _heads(
        self,
        contents: Mapping[str, Mapping[str, Any]],
        found: Mapping[str, State],
        paths: Mapping[str, str],
        wanted: State,
        layers: dict[str, str],
        tasks: list[str],
    ) -> tuple[list[Move], dict[str, list[str]]]:
        """What is taken of heads; and by checkpoint, the tasks whose labels are others there."""
        moves, why = list[Move](), dict[str, list[str]]()
        for file, content in contents.items():
            mine = [task for task in tasks if task == file or (file == EVERYONE and task not in contents)]
            other = set() if self.reset_head else self.relabelled(content, Path(paths[file]), key_of(file))
            why[file] = [head_layer(task) for task in mine if task in other]
            heads = set() if self.reset_head else _same_heads(found[file], wanted, layers) - {*why[file]}
            heads &= set(map(head_layer, mine))
            names = [name for name in wanted if layers[name] in heads and name in found[file]]
            moves += [Move(wanted[name], found[file][name], file, name, [name]) for name in names]
        return moves, why


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draw by a seed, and leave the generators as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and not that of a device
        yield


def _of_network(state: Mapping[str, Tensor]) -> State:
    """What a checkpoint has of the network, by the names that it has there."""
    return {name.removeprefix(NETWORK): x for name, x in state.items() if name.startswith(NETWORK)}


def _ours(state: Mapping[str, Tensor]) -> State:
    """What may be taken, from input to output."""
    return {name: state[name] for beginning in OURS for name in state if name.startswith(beginning)}


def _check_trunk(moves: Sequence[Move], found: State, wanted: State, file: str, paths: Mapping[str, str]) -> None:
    """Refuse a file whose weights below the heads are of another network."""
    if not moves and (file != EVERYONE or len(paths) == 1):
        have, want = (next((name for name in each if name.startswith(TRUNK)), "nothing") for each in (found, wanted))
        raise ConfigurationError(
            key_of(file),
            "must hold weights that fit below the heads",
            f"none in {paths[file]}: it has {have}, …; the network wants {want}, …",
        )
    for move in moves:
        if move.source.shape != move.to.shape:
            raise ConfigurationError(
                key_of(file),
                f"{move.name} must be {tuple(move.to.shape)}, as the configured network has it",
                f"{tuple(move.source.shape)} in {paths[file]}",
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


def _told(
    moves: Sequence[Move],
    found: Mapping[str, State],
    paths: Mapping[str, str],
    layers: Mapping[str, str],
    why: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """What was taken of each checkpoint and what was left there."""
    for file, state in found.items():
        own = [move for move in moves if move.file == file]
        given, there = Counter(move.name for move in own), {move.name: layers[move.holds[0]] for move in own}
        yield f"{key_of(file)}: {paths[file]}"
        yield from (f"  {layer}: of other classes or another unit in the file" for layer in sorted(why[file]))
        for copies in sorted({*given.values()}):
            taken = {name: state[name] for name in given if given[name] == copies}
            many = f", to {copies} copies each" if copies > 1 else ""
            yield from (f"{line}{many}" for line in _lines("taken", taken, there))
        left = {name: x for name, x in state.items() if name not in given}
        yield from _lines("left in the file", left, _guessed(left) | dict(layers))


def _lines(what: str, tensors: State, layers: Mapping[str, str]) -> list[str]:
    """A line a layer."""
    sizes: dict[str, list[int]] = {}
    for name, x in tensors.items():
        sizes.setdefault(layers[name], []).append(x.numel())
    return [f"  {what}: {layer}, {len(own)} tensors of {sum(own):,} numbers" for layer, own in sizes.items()]
