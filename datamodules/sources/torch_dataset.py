"""Any dataset of torch."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from datamodules.sources.base import Source, Split, SplitName, UnreadableRowError
from datamodules.sources.cutting import cut
from datamodules.targets import Binary, Categorical, Target

UNREADABLE = (OSError, EOFError, RuntimeError, SyntaxError, ValueError)  # what decoders raise for a broken file


class TorchDataset(Source):
    """A `torch.utils.data.Dataset` with a length: one of torchvision's, or a class of your own, by `class_path`.

    An item is (input, target) or a dict. A target is the label of the only task; or several tasks' labels, in the order
    of `targets`, or a dict of them. A dict item has its tasks' labels beside its inputs. A label is a number, a row of
    numbers, or the name of a class; None, NaN or an absent key is a missing label. An input is a PIL image, an array or
    a tensor, or a dict of these, a modality each.

    Labels are read at the start: from the dataset's attribute `targets` or `labels`, as torchvision's have it, if
    there is one task and no `target_transform`; else by reading every item once. An item that cannot be read then
    has no label, and `data.on_error` says whether the run stops.

    Args:
        train: The dataset for training.
        targets: Task → what its label is, e.g. `Categorical` with the names of its `classes`.
        val: The dataset for validation; cut from `train` if it is left out.
        test: The dataset for the test; cut from `train` if it is left out.
        inputs: Key of a dict's input, or several keys, a modality each.
        fractions: Shares of training, validation and test where `train` is cut, each class of the first categorical or
            binary task in the same proportion.
        seed: Which rows go into which split. Not the seed of the training run.

    Raises:
        ValueError: A dataset has no length, or an item or a label is not as described.
    """

    def __init__(
        self,
        train: Dataset,  # type: ignore[type-arg]  # of a generic, jsonargparse would not parse a nested transform
        targets: dict[str, Target],
        val: Dataset | None = None,  # type: ignore[type-arg]
        test: Dataset | None = None,  # type: ignore[type-arg]
        inputs: str | list[str] | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
    ) -> None:
        self.targets = targets
        datasets: dict[SplitName, Any] = {"train": train, "val": val, "test": test}
        given = {name: Items(name, each, inputs) for name, each in datasets.items() if each is not None}
        self._splits = {name: _whole(items, targets) for name, items in given.items()}
        whole = self._splits["train"]
        for name, rows in cut(list(given), fractions, _strata(whole, targets), seed).items():
            self._splits[name] = whole.part(rows)

    def split(self, name: SplitName) -> ItemSplit:
        """Inputs are what the dataset gives."""
        return self._splits[name]


class Items:
    """A dataset's items, taken apart.

    Args:
        origin: What the user calls the dataset: train, val or test.
        dataset: The dataset.
        keys: Key or keys of a dict's input.
    """

    def __init__(self, origin: str, dataset: Any, keys: str | list[str] | None) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise ValueError(f"{origin}: must be a dataset with a length, found {type(dataset).__name__}")
        self.origin, self.dataset, self.keys = origin, dataset, keys

    def __len__(self) -> int:
        """Number of items N."""
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        """An item: (input, target), or a dict.

        Raises:
            UnreadableRowError: The dataset cannot read it.
            ValueError: It is of another kind.
        """
        try:
            item = self.dataset[row]
        except UNREADABLE as error:
            raise UnreadableRowError(f"{self.name(row)}: must be readable, found: {_line(error)}") from error
        if isinstance(item, Mapping) or (isinstance(item, tuple | list) and len(item) == 2):
            return item
        raise ValueError(f"{self.name(row)}: an item must be (input, target) or a dict, found {type(item).__name__}")

    def name(self, row: int) -> str:
        """What the user calls a row."""
        return f"row {row} of {self.origin}"

    def input(self, row: int) -> Any:
        """An item's input, or its inputs by modality.

        Raises:
            UnreadableRowError: The dataset cannot read it.
            ValueError: It has not the keys that are asked for.
        """
        item = self[row]
        content = item if isinstance(item, Mapping) else item[0]
        if self.keys is None and content is not item:
            return content
        keys = [self.keys] if isinstance(self.keys, str) else self.keys
        if keys is None or not isinstance(content, Mapping) or not set(keys) <= set(content):
            found = sorted(content) if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(f"{self.name(row)}: `inputs` must be keys of the item, {self.keys!r}, found {found}")
        return content[self.keys] if isinstance(self.keys, str) else {key: content[key] for key in keys}

    def labels(self, row: int, tasks: Sequence[str]) -> dict[str, Any]:
        """Task → label of an item, as the dataset has it; None where there is none.

        Raises:
            UnreadableRowError: The dataset cannot read it.
            ValueError: There are not as many labels as tasks.
        """
        item = self[row]
        target = item if isinstance(item, Mapping) else item[1]
        if isinstance(target, Mapping):
            return {task: target.get(task) for task in tasks}
        if len(tasks) == 1:
            return {tasks[0]: target}
        if isinstance(target, str) or not hasattr(target, "__len__") or len(target) != len(tasks):
            found = reprlib.repr(target)
            raise ValueError(f"{self.name(row)}: a target must have a label for each of {list(tasks)}, found {found}")
        return dict(zip(tasks, target, strict=True))

    def held_labels(self) -> Any:
        """The labels of all rows, where the dataset holds them as torchvision's do; else None."""
        if getattr(self.dataset, "target_transform", None) is None:
            for name in ("targets", "labels"):
                values: Any = getattr(self.dataset, name, None)
                if hasattr(values, "__len__") and len(values) == len(self):
                    return values.tolist() if hasattr(values, "tolist") else values
        return None


class ItemSplit(Split):
    """Rows of a dataset of torch, of which the inputs are read one by one.

    Args:
        items: The items of the dataset.
        rows: [N] their rows in the dataset.
        labels: task → [N, ...].
        labelled: task → [N] bool.
        broken: Row in the dataset → why it could not be read at the start.
    """

    def __init__(
        self, items: Items, rows: Tensor, labels: dict[str, Tensor], labelled: dict[str, Tensor], broken: dict[int, str]
    ) -> None:
        super().__init__(len(rows), labels, labelled)
        self.items, self.rows, self.broken = items, rows, broken

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """Input and labels of one row."""
        return self.items.input(int(self.rows[row])), self.labels_of(row)

    def name(self, row: int) -> str:
        """The row in the user's dataset, and why it could not be read."""
        index = int(self.rows[row])
        why = f", which cannot be read ({self.broken[index]})" if index in self.broken else ""
        return self.items.name(index) + why

    def key(self, row: int) -> str:
        """The row in the user's dataset."""
        return str(int(self.rows[row]))

    def missing(self) -> list[int]:
        """Rows that could not be read at the start."""
        return [row for row, index in enumerate(self.rows.tolist()) if index in self.broken]

    def part(self, rows: Tensor) -> ItemSplit:
        """Some of the rows."""
        labels = {task: values[rows] for task, values in self._labels.items()}
        labelled = {task: mask[rows] for task, mask in self.labelled.items()}
        return ItemSplit(self.items, self.rows[rows], labels, labelled, self.broken)


def _whole(items: Items, targets: Mapping[str, Target]) -> ItemSplit:
    """All rows of a dataset, their labels read."""
    values, broken = _values(items, list(targets))
    labels, labelled = {}, {}
    for task, target in targets.items():
        numbers = torch.zeros(len(values), *target.label_shape, dtype=torch.float64)
        mask = torch.zeros(len(values), dtype=torch.bool)
        for row, value in enumerate(values):
            try:
                label = _numbers(target, value.get(task))
            except ValueError as error:
                raise ValueError(f"{items.name(row)}, target {task!r}: {error}") from error
            if label is not None:
                numbers[row], mask[row] = label, True
        indices = isinstance(target, Categorical) and torch.equal(numbers, numbers.round())
        labels[task] = numbers.to(torch.int64 if indices else torch.get_default_dtype())
        labelled[task] = mask
    return ItemSplit(items, torch.arange(len(items)), labels, labelled, broken)


def _values(items: Items, tasks: list[str]) -> tuple[list[Mapping[str, Any]], dict[int, str]]:
    """For every row, task → label as the dataset has it; and row → why it cannot be read."""
    held = items.held_labels() if len(tasks) == 1 else None
    if held is not None:
        return [value if isinstance(value, Mapping) else {tasks[0]: value} for value in held], {}
    values: list[Mapping[str, Any]] = []
    broken = {}
    for row in range(len(items)):
        try:
            values.append(items.labels(row, tasks))
        except UnreadableRowError as error:
            values.append({})
            broken[row] = _line(error.__cause__)
    return values, broken


def _numbers(target: Target, value: Any) -> Tensor | None:
    """A label in the shape that the target wants, a class's name as its index; None if it is missing."""
    if value is None:
        return None
    if isinstance(value, str):
        names = target.classes if isinstance(target, Categorical) else getattr(target, "names", ())
        if value not in names:
            raise ValueError(f"a label must be {f'one of {list(names)}' if names else target.rule}, found {value!r}")
        value = names.index(value)
    try:
        label = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):  # as torch raises for what is no number
        raise ValueError(f"a label must be {target.rule}, found {reprlib.repr(value)}") from None
    if label.numel() == 1 and label.isnan():
        return None
    if label.numel() != prod(target.label_shape):
        raise ValueError(f"a label must be {target.rule}, found {reprlib.repr(value)}")
    return label.reshape(target.label_shape)


def _strata(split: ItemSplit, targets: Mapping[str, Target]) -> Tensor:
    """Class [N] of the first task that has classes."""
    for task, target in targets.items():
        if isinstance(target, Categorical | Binary):
            strata = torch.full((len(split),), -1)
            strata[split.labelled[task]] = split.labels(task).long()
            return strata
    return torch.zeros(len(split), dtype=torch.int64)


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
