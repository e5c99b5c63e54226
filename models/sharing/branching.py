"""One backbone that branches: a tree of which task uses which copy of every stage."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import Backbone, BackboneBuilder
from models.backbones.base import Inputs, last_trained_matrix
from models.backbones.part import halvings, stage_parameters
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.learned import Learned
from models.sharing.base import Sharing
from models.sharing.rows import RowsOf, size_of, take_inputs
from models.sharing.statistics import statistics_of

Groups = Sequence[Sequence[str]]  # of tasks
KEY = "model.sharing.tree"


class Branching(Sharing):
    """Tasks share a backbone as far as a tree says, and go apart above: a branch is a copy of a stage for some tasks.

    A tree is given, or begins with a single trunk that is split in training, as by Lu et al., "Fully-Adaptive Feature
    Sharing in Multi-Task Networks" (2017), or was found beforehand, as by Vandenhende et al., "Branched Multi-Task
    Networks: Deciding What Layers to Share" (2020). Without a split this is hard sharing, with all splits independent
    networks.

    Every task has a backbone from the start, so that no parameter comes or goes: at a stage, tasks of one branch use
    that of the first of them, and nobody uses the others'. A branch of all tasks sees the batch as it is, any other one
    the rows of its tasks, each once. A stage without parameters branches as the one below it.

    Attributes:
        stages: the numbers of the stages that have parameters.
        halvings: of each stage, how often the height of its map is halved above it.
        tree: [stages with parameters, T] the number of the task whose backbone each task uses there.
    """

    walks_stages = True
    structure = ("tree",)
    tree: Tensor

    def __init__(
        self, backbone: BackboneBuilder, tasks: list[str], tree: dict[int, list[list[str]]] | None = None
    ) -> None:
        """Build the backbones.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            tree: stage → its groups of tasks. A stage that is left out is as the one below it, the first is shared by
                all.

        Raises:
            ConfigurationError: there is no such stage, a task is of no group or of several, or tasks that went apart
                join again.
        """
        super().__init__()
        self.tasks = tasks
        self.networks = ModulesByName[Backbone]({task: backbone() for task in tasks})
        self.channels = {task: network.channels for task, network in self.networks.items()}
        first = self.networks[tasks[0]]
        names = {id(parameter): name for name, parameter in first.named_parameters()}
        used = [[names[id(p)] for p in own] for own in stage_parameters(first, backbone.input_shape)]
        self.stages = [number for number, own in enumerate(used) if own]
        self.halvings = halvings(first, backbone.input_shape)
        self._names = [[*used[stage], *_buffers(first, first.stages[stage])] for stage in self.stages]
        self.register_buffer("tree", torch.tensor(tree_of(tree or {}, tasks, self.stages)))
        self._read_tree()

    def _read_tree(self) -> None:
        """Have the tree at hand, which a device would be waited for."""
        self._copies: list[list[int]] = self.tree.tolist()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._read_tree()

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        calls = [network.stage_calls() for network in self.networks.values()]
        features: dict[str, list[Tensor]] = {task: [] for task in rows}
        places: dict[str, list[Tensor]] = {task: [] for task in rows}
        branches = [Branch(0, inputs, None, rows)]
        for stage in range(len(calls[0])):
            branches = [part for each in branches for part in self._parts(each, stage, rows, size_of(inputs))]
            for branch in branches:
                with statistics_of(size_of(branch.x), self.training):
                    branch.x = x = calls[branch.copy][stage](branch.x)  # type: ignore[arg-type]  # the first reads dicts
                for task, own in branch.places.items():
                    features[task].append(x)
                    places[task].append(own)
        return {task: RowsOf(features[task], places[task]) for task in rows}

    def _parts(self, branch: "Branch", stage: int, rows: Mapping[str, Tensor], size: int) -> "Iterator[Branch]":
        """What a branch below goes on as at a stage."""
        copies = self._copies_at(stage)
        users = {copy: [t for t in branch.places if copies[self.tasks.index(t)] == copy] for copy in sorted({*copies})}
        for copy, tasks in users.items():
            if tasks == [*branch.places] and (branch.rows is not None or len(users) == 1):
                yield Branch(copy, branch.x, branch.rows, branch.places)
            elif tasks:
                own = union([rows[task] for task in tasks], size)
                x = take_inputs(branch.x, _within(branch.rows, own))
                yield Branch(copy, x, own, {task: _within(own, rows[task]) for task in tasks})

    def _copies_at(self, stage: int) -> list[int]:
        """[T] which task's backbone each task uses at a stage."""
        below = sum(number <= stage for number in self.stages)
        return self._copies[below - 1] if below else [0] * len(self.tasks)

    def learned(self) -> dict[str, Learned]:
        """The tree: the number of each task's branch at each stage that has parameters."""
        numbers = [list(map(sorted({*copies}).index, copies)) for copies in self._copies]
        names = [f"stage {stage}" for stage in self.stages]
        return {"tree": Learned(torch.tensor(numbers), names, self.tasks, 0, max(1, len(self.tasks) - 1))}

    def groups(self, stage: int) -> list[list[str]]:
        """The tasks of each branch at a stage."""
        return groups_of(self._copies_at(stage), self.tasks)

    def split(self, stage: int, groups: Groups) -> dict[str, str]:
        """Part the branches at a stage, and all above, wherever tasks of different groups share one.

        Weights and buffers of a new branch become those of the branch that it was part of.

        Args:
            stage: one of `stages`.
            groups: of the tasks, each in one.

        Returns:
            Name of a parameter or buffer of a new branch → that of the one it now equals; nothing if none is new.
        """
        wanted = copies_of(groups, self.tasks)
        came_from: dict[str, str] = {}
        for place in range(self.stages.index(stage), len(self.stages)):
            before = self._copies[place]
            after = apart(before, wanted)
            for new, old in {(new, old) for new, old in zip(after, before, strict=True) if new != old}:
                ours, theirs = (f"networks.{self.tasks[copy]}." for copy in (new, old))
                came_from |= {f"{ours}{name}": f"{theirs}{name}" for name in self._names[place]}
            self.tree[place] = torch.tensor(after)
        self._read_tree()
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        with torch.no_grad():
            for name, source in came_from.items():
                tensors[name].copy_(tensors[source])
        return came_from

    def rows_in_trunk(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → its rows of the batch, where what is shared sees the batch as it is; else none: layouts differ."""
        users = [len(tasks) for stage in self.stages for tasks in self.groups(stage)]
        return rows if all(number in (1, len(self.tasks)) for number in users) else {}

    def compared_weights(self) -> list[nn.Parameter]:
        """The last matrix of each branch, of the last stage that has no more of them than the first has."""
        level = max(place for place, copies in enumerate(self._copies) if len({*copies}) == len({*self._copies[0]}))
        shared = [self._weights(level, copy) for copy, tasks in self._users(level) if len(tasks) > 1]
        return [weight for own in shared for weight in last_trained_matrix(own)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those of branches of several tasks, from input to output."""
        return self._of_branches(lambda tasks: len(tasks) > 1)

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """Those of branches of this task alone."""
        return self._of_branches(lambda tasks: tasks == [task])

    def unused_parameters(self) -> list[nn.Parameter]:
        """Those that are no branch."""
        used = {id(parameter) for parameter in self._of_branches(lambda tasks: True)}
        return [parameter for parameter in self.parameters() if id(parameter) not in used]

    def _of_branches(self, chosen: Callable[[list[str]], bool]) -> list[nn.Parameter]:
        """The parameters of the branches whose tasks are so, from input to output."""
        branches = [(place, *each) for place in range(len(self.stages)) for each in self._users(place)]
        return [p for place, copy, tasks in branches if chosen(tasks) for p in self._weights(place, copy)]

    def _users(self, place: int) -> list[tuple[int, list[str]]]:
        """The copies that are in use, each with its tasks."""
        groups = groups_of(self._copies[place], self.tasks)
        return [(self.tasks.index(tasks[0]), tasks) for tasks in groups]

    def _weights(self, place: int, copy: int) -> list[nn.Parameter]:
        named = dict(self.networks[self.tasks[copy]].named_parameters())
        return [named[name] for name in self._names[place] if name in named]


@dataclass
class Branch:
    """What a branch gives, stage by stage.

    Args:
        copy: whose backbone it uses.
        x: its activations [N, ...], or the inputs.
        rows: [N] which rows of the batch these are; None for all, as they are.
        places: task → where its rows are among them, [B_t].
    """

    copy: int
    x: Inputs
    rows: Tensor | None
    places: Mapping[str, Tensor]


def union(rows: Sequence[Tensor], size: int) -> Tensor:
    """Each of the rows of a batch of so many once, sorted, of several such lists of them."""
    whole = [own for own in rows if len(rows) == 1 or own.shape[0] == size]
    return whole[0] if whole else torch.unique(torch.cat(list(rows)))


def _within(rows: Tensor | None, wanted: Tensor) -> Tensor:
    """Where the wanted rows are among rows that hold them; among all of a batch, where there are none given."""
    return wanted if rows is None or rows is wanted else torch.searchsorted(rows, wanted)


def _buffers(network: nn.Module, stage: nn.Module) -> list[str]:
    """The names that a network has for the buffers of a stage."""
    own = {id(buffer) for buffer in stage.buffers()}
    return [name for name, buffer in network.named_buffers() if id(buffer) in own]


def copies_of(groups: Groups, tasks: Sequence[str]) -> list[int]:
    """[T] the number of the first task of each task's group."""
    first = {task: min(tasks.index(each) for each in group) for group in groups for task in group}
    return [first[task] for task in tasks]


def groups_of(copies: Sequence[int], tasks: Sequence[str]) -> list[list[str]]:
    """The tasks of each group, of what `copies_of` gives."""
    return [[task for task, c in zip(tasks, copies, strict=True) if c == copy] for copy in sorted({*copies})]


def apart(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """[T] the same where tasks are together in both of two groupings."""
    pairs = list(zip(one, other, strict=True))
    return [pairs.index(pair) for pair in pairs]


def tree_of(given: Mapping[int, Groups], tasks: list[str], stages: Sequence[int]) -> list[list[int]]:
    """[stages with parameters, T] which task's backbone each task uses, of groups by stage.

    Raises:
        ConfigurationError: See `Branching`.
    """
    if unknown := [stage for stage in given if stage not in stages]:
        raise ConfigurationError(KEY, f"must name stages with parameters, of {list(stages)}", unknown[0])
    tree, before = [], [0] * len(tasks)
    for stage in stages:
        groups = given.get(stage, groups_of(before, tasks))
        if sorted(task for group in groups for task in group) != sorted(tasks):
            raise ConfigurationError(KEY, f"must have each of the tasks {tasks} once at stage {stage}", groups)
        copies = copies_of(groups, tasks)
        if apart(before, copies) != copies:
            raise ConfigurationError(KEY, f"must not join at stage {stage} what is apart below it", groups)
        tree.append(copies)
        before = copies
    return tree
