"""Which tensor of which checkpoint a new network takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from models.errors import ConfigurationError
from models.sharing.copies import Copy

TRUNK = "sharing."  # how the names of what is below the heads begin
KEY = "model.init_from"
EVERYONE = "*"  # in place of a task: what several tasks share, and tasks that are not named
State = dict[str, Tensor]
InitFrom = dict[str, str] | str | None


@dataclass(frozen=True)
class Move:
    """A tensor of a checkpoint for one of the network.

    Args:
        to: the network's values, or those of a copy of a backbone that are made from others.
        source: the checkpoint's.
        file: the task whose checkpoint it is, or `EVERYONE`.
        name: its name there.
        holds: the names that the network has for what holds it.
    """

    to: Tensor
    source: Tensor
    file: str
    name: str
    holds: Sequence[str]


def paths_of(init_from: InitFrom) -> dict[str, str]:
    """Task, or `EVERYONE` → its checkpoint."""
    return {EVERYONE: init_from} if isinstance(init_from, str) else init_from or {}


def key_of(file: str) -> str:
    """What the configuration calls the checkpoint of a task, or of all that are not named."""
    return KEY if file == EVERYONE else f"{KEY}.{file}"


def check_tasks(files: Iterable[str], tasks: Sequence[str]) -> None:
    """Refuse checkpoints of no task.

    Raises:
        ConfigurationError: There is one.
    """
    if unknown := [file for file in files if file not in (*tasks, EVERYONE)]:
        raise ConfigurationError(KEY, f"must be of the tasks {list(tasks)}, or '*' for what they share", unknown[0])


def trunk_moves(found: Mapping[str, State], wanted: State, copies: Sequence[Copy]) -> tuple[list[Move], list[Move]]:
    """What is taken below the heads: by copies of a backbone of a trunk; and what is called alike in both.

    Args:
        found: Task, or `EVERYONE` → what its checkpoint has.
        wanted: What the network is to take.
        copies: Where it has copies of a backbone.

    Raises:
        ConfigurationError: A copy of several tasks gets nothing, where those of one task get something.
    """
    by_name = found.get(EVERYONE, {}).keys() & {name for name in wanted if name.startswith(TRUNK)}
    moves = [move for copy in copies for move in _for_copy(copy, found, wanted, by_name)]
    begun = {name for move in moves for name in move.holds}
    for copy in copies if moves or found.keys() != {EVERYONE} else []:
        names = {f"{TRUNK}{name}" for held in copy.held.values() for name in held} & wanted.keys()
        if copy.task is None and names and not names & (begun | by_name):
            rule = f"must name a checkpoint '*', with a trunk for sharing.{copy.path}, which several tasks share"
            raise ConfigurationError(KEY, rule, f"those of {', '.join(found)}")
    same = [Move(wanted[name], found[EVERYONE][name], EVERYONE, name, [name]) for name in wanted if name in by_name]
    return moves, [move for move in same if move.name not in begun]


def _for_copy(copy: Copy, found: Mapping[str, State], wanted: State, by_name: Collection[str]) -> Iterator[Move]:
    """What a copy of a backbone takes of a trunk."""
    file = copy.task if copy.task is not None and copy.task in found else EVERYONE
    state = found.get(file, {})
    trunk = next((each for each in _trunks(copy.task) if any(name.startswith(each) for name in state)), None)
    for name, x in copy.tensors.items() if trunk else ():
        holds = [f"{TRUNK}{held}" for held in copy.held[name]]
        known = file == EVERYONE and all(each in by_name for each in holds)
        if f"{trunk}{name}" in state and wanted.keys() >= {*holds} and not known:
            yield Move(x, state[f"{trunk}{name}"], file, f"{trunk}{name}", holds)


def _trunks(task: str | None) -> list[str]:
    """How the names of a trunk begin, in a checkpoint: that of all tasks, or a task's own network."""
    return [f"{TRUNK}backbone.", *([] if task is None else [f"{TRUNK}networks.{task}."])]
