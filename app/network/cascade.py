"""Heads that read other tasks' predictions of their own rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from app.tasks import Task
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.heads import Head, ReadingHead
from models.sharing.statistics import statistics_of

Features = Mapping[str, Sequence[Tensor]]


def check_reads(tasks: Mapping[str, Task]) -> None:
    """Refuse what a head cannot read.

    Raises:
        ConfigurationError: A head reads a task that is not there, twice, its own, one with a label a pixel, or one that
            reads the head's own task, directly or through others; or it is said how a head reads that reads nothing.
    """
    for name, task in tasks.items():
        key, config = f"model.tasks.{name}", task.config
        if not config.reads:
            _check_idle(key, task)
            continue
        others = [other for other, each in tasks.items() if other != name and not each.target.dense]
        if unknown := [other for other in config.reads if other not in others]:
            raise ConfigurationError(f"{key}.reads", f"must be other tasks with a label a row, {others}", unknown)
        if len({*config.reads}) < len(config.reads):
            raise ConfigurationError(f"{key}.reads", "must name each task once", list(config.reads))
        if config.embedding < 1:
            raise ConfigurationError(f"{key}.embedding", "must be at least 1", config.embedding)
    for name in tasks:
        _check_way(tasks, [name])


def _check_idle(key: str, task: Task) -> None:
    """Refuse what says how a head reads, of one that reads nothing."""
    for option in ("embedding", "detached"):
        if (value := getattr(task.config, option)) != getattr(type(task.config), option):
            raise ConfigurationError(f"{key}.{option}", f"is for a head that reads tasks, named in {key}.reads", value)


def _check_way(tasks: Mapping[str, Task], way: list[str]) -> None:
    """Refuse a way from a task over those that are read which leads back to it."""
    for read in tasks[way[-1]].config.reads:
        if read == way[0]:
            found = " reads ".join([*way, read])
            raise ConfigurationError(f"model.tasks.{way[0]}.reads", "must not lead back to the task", found)
        if read not in way:
            _check_way(tasks, [*way, read])


def earlier(tasks: Mapping[str, Task], name: str) -> list[str]:
    """The tasks that a task's head reads, directly or through others."""
    found = dict.fromkeys(tasks[name].config.reads)
    for read in tasks[name].config.reads:
        found |= dict.fromkeys(earlier(tasks, read))
    return list(found)


def read_with_gradient(tasks: Mapping[str, Task]) -> set[str]:
    """The tasks whose parameters other tasks' losses reach, too."""
    return {read for task in tasks.values() if not task.config.detached for read in task.config.reads}


class Predictions:
    """The outputs of a forward pass, where heads read other tasks' predictions of their own rows.

    In training, those are asked for as in evaluation: no dropout, running statistics that do not move.

    Args:
        tasks: All tasks.
        heads: Their heads.
        rows: Task → its rows.
        laid_out: The same, as `features` counts them.
        features: Gives, of tasks with rows, features of these.
        evaluating: Puts the network in evaluation mode for a while; None if it is in that.
    """

    def __init__(
        self,
        tasks: ModulesByName[Task],
        heads: ModulesByName[Head],
        rows: Mapping[str, Tensor],
        laid_out: Mapping[str, Tensor],
        features: Callable[[dict[str, Tensor]], Features],
        evaluating: Callable[[], AbstractContextManager[None]] | None,
    ) -> None:
        self.tasks, self.heads, self.rows, self.laid_out = tasks, heads, rows, laid_out
        self.features, self.evaluating = features, evaluating
        self._own = features(dict(rows))
        self._of_rows: dict[str, Features] = {}
        self._known: dict[tuple[str, str], Tensor] = {}  # a task, and whose rows

    def of(self, task: str, reader: str) -> Tensor:
        """Outputs [B, outputs] of a task, of the rows of `reader`."""
        whose = task if self._same_rows(task, reader) else reader
        if (task, whose) not in self._known:
            features = self._own[task] if whose == task else self._of_others(reader)[task]
            self._known[task, whose] = self._by_head(task, features, whose)
        return self._known[task, whose]

    def _same_rows(self, task: str, reader: str) -> bool:
        """Whether what a task gives of its own rows is what the reader asks for."""
        if task == reader:
            return True
        if self.evaluating is not None or task not in self.rows:
            return False
        own, asked = self.rows[task], self.rows[reader]
        return own is asked or (own.shape == asked.shape and torch.equal(own, asked))

    def _of_others(self, reader: str) -> Features:
        """Features of all tasks that a task reads, of its rows."""
        if reader not in self._of_rows:
            asked = earlier(dict(self.tasks.items()), reader)
            self._of_rows[reader] = self.features(dict.fromkeys(asked, self.laid_out[reader]))
        return self._of_rows[reader]

    def _by_head(self, task: str, features: Sequence[Tensor], reader: str) -> Tensor:
        head, config = self.heads[task], self.tasks[task].config
        read = None
        if isinstance(head, ReadingHead):
            # With a graph, and detached then: autocast keeps weights that it casts without one, also for who needs one.
            with self.evaluating() if self.evaluating else nullcontext():
                read = {each: self._shown(each, reader, config.detached) for each in config.reads}
        with statistics_of(self.rows[reader].shape[0], head.training):  # a head may normalise, its task have one row
            output: Tensor = head(features) if read is None else head(features, read)
        return output

    def _shown(self, task: str, reader: str, detached: bool) -> Tensor:
        shown = self.tasks[task].shown(self.of(task, reader))
        return shown.detach() if detached else shown


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put what is in training in evaluation mode, and back afterwards."""
    trained = [module for module in network.modules() if module.training]
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True
