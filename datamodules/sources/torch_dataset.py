"""Any dataset of torch."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from datamodules.errors import DataError, UnreadableRowError
from datamodules.sources.base import Source
from datamodules.sources.cutting import cut
from datamodules.sources.faults import message_of
from datamodules.sources.items import Items
from datamodules.sources.split import Split, SplitName
from datamodules.splits.folds import strata_of
from datamodules.splits.splitting import members_of
from datamodules.targets import Target


class TorchDataset(Source):
    """A `torch.utils.data.Dataset` with a length: one of torchvision's, or a class of your own, by `class_path`.

    An item is (input, target) or a dict. A target is the label of the only task; or several tasks' labels, in the order
    of `targets`, or a dict of them. A dict item has its tasks' labels beside its inputs. A label is a number, a row of
    numbers, or the name of a class; None, NaN or an absent key is a missing label. An input is a PIL image, an array or
    a tensor, or a dict of these, a modality each.

    Labels are read at the start, to be counted: from the dataset's attribute `targets` or `labels`, as torchvision's
    have it, if there is one task and no `target_transform`; else by reading every item once. What is learned from is
    the label of the item at each visit, which a random augmentation may change, but not take away; one that is a
    `torchvision.tv_tensors.Mask` moves with its image in `TorchvisionTransforms`.

    An item is unreadable if the dataset, or PIL on an image that it opened, raises OSError, EOFError or SyntaxError;
    `data.on_error` says whether the run stops. If it was so at the start, it has no label and stays out.

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
        ValueError: A dataset has no length or raises an error of its own, or an item or a label is not as described.
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
        for task, target in targets.items():
            if target.dense:
                raise DataError(
                    f"targets.{task}",
                    "must have one label a row, which are held in memory",
                    f"{type(target).__name__}; maps come from a Source of their own",
                )
        self.targets = targets
        datasets: dict[SplitName, Any] = {"train": train, "val": val, "test": test}
        given = {name: Items(name, each, inputs) for name, each in datasets.items() if each is not None}
        self._splits = {name: _whole(items, targets) for name, items in given.items()}
        whole = self._splits["train"]
        members = members_of(targets, whole._labels, whole.labelled)
        parts = cut(list(given), fractions, _strata(whole, targets), seed, members)
        for name, rows in parts.items():
            self._splits[name] = whole.part(rows)

    def split(self, name: SplitName) -> ItemSplit:
        """Inputs are what the dataset gives."""
        return self._splits[name]


class ItemSplit(Split):
    """Rows of a dataset of torch, of which the inputs and their labels are read one by one.

    Args:
        items: The items of the dataset.
        targets: Task → what its label is.
        rows: [N] their rows in the dataset.
        labels: task → [N, ...] at the start.
        labelled: task → [N] bool.
        blanks: Task → what stands for the label of a row without one; a mask where labels are masks.
        broken: Row in the dataset → why it could not be read at the start.
    """

    def __init__(
        self,
        items: Items,
        targets: Mapping[str, Target],
        rows: Tensor,
        labels: dict[str, Tensor],
        labelled: dict[str, Tensor],
        blanks: Mapping[str, Tensor],
        broken: Mapping[int, str],
    ) -> None:
        super().__init__(len(rows), labels, labelled)
        self.items, self.targets, self.rows = items, targets, rows
        self.blanks, self.broken = blanks, broken

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        """Input and labels of one row, from one visit to the dataset.

        Raises:
            UnreadableRowError: The item cannot be read, or could not at the start.
            ValueError: A label breaks its target's rule, or is missing where it was there at the start or vice versa.
        """
        index = int(self.rows[row])
        if index in self.broken:
            raise UnreadableRowError(self.items.name(index), f"must be readable, found: {self.broken[index]}")
        item = self.items[index]
        values = self.items.labels(index, item, list(self.targets))
        labels = {task: self._label(row, task, value) for task, value in values.items()}
        return self.items.input(index, item), labels

    def _label(self, row: int, task: str, value: Any) -> Tensor:
        """A label of this visit."""
        target, where = self.targets[task], f"{self.name(row)}, target {task!r}"
        try:
            label = _numbers(target, value)
        except DataError as error:
            raise DataError(where, str(error)) from error
        if (label is not None) != bool(self.labelled[task][row]):
            rule, found = ("missing", "one") if label is not None else ("there", "none")
            raise DataError(where, f"a label must be {rule} at each visit, as at the start", found)
        if label is None:
            return self.blanks[task]
        if target.invalid(label[None]).any():
            raise DataError(where, f"a label must be {target.rule}", reprlib.repr(value))
        return label

    def name(self, row: int) -> str:
        """The row in the user's dataset, and why it could not be read."""
        index = int(self.rows[row])
        why = f", which cannot be read ({self.broken[index]})" if index in self.broken else ""
        return self.items.name(index) + why

    def key(self, row: int) -> str:
        """The row in the user's dataset."""
        return str(int(self.rows[row]))

    def keys(self) -> list[str]:
        """The rows in the user's dataset."""
        return list(map(str, self.rows.tolist()))

    def missing(self) -> list[int]:
        """Rows that could not be read at the start."""
        return [row for row, index in enumerate(self.rows.tolist()) if index in self.broken]

    def part(self, rows: Tensor) -> ItemSplit:
        """Some of the rows."""
        labels = {task: values[rows] for task, values in self._labels.items()}
        labelled = {task: mask[rows] for task, mask in self.labelled.items()}
        return ItemSplit(self.items, self.targets, self.rows[rows], labels, labelled, self.blanks, self.broken)


def _whole(items: Items, targets: Mapping[str, Target]) -> ItemSplit:
    """All rows of a dataset, their labels read."""
    values, broken = _values(items, list(targets))
    labels, labelled, blanks = {}, {}, {}
    for task, target in targets.items():
        blanks[task] = target.typed(torch.zeros(target.label_shape, dtype=torch.float64))
        numbers = torch.zeros(len(values), *target.label_shape, dtype=torch.float64)
        mask = torch.zeros(len(values), dtype=torch.bool)
        for row, value in enumerate(values):
            try:
                label = _numbers(target, value.get(task))
            except DataError as error:
                raise DataError(f"{items.name(row)}, target {task!r}", str(error)) from error
            if label is not None:
                numbers[row], mask[row] = label, True
            if isinstance(label, tv_tensors.TVTensor):
                blanks[task] = tv_tensors.wrap(blanks[task], like=label)
        labels[task] = target.typed(numbers)
        labelled[task] = mask
    if broken:
        first = "; ".join(f"{items.name(row)}: {why}" for row, why in list(broken.items())[:3])
        more = "; …" if len(broken) > 3 else ""
        warnings.warn(
            f"{items.origin}: rows that cannot be read have no label, found {len(broken)}: {first}{more}", stacklevel=2
        )
    return ItemSplit(items, targets, torch.arange(len(items)), labels, labelled, blanks, broken)


def _values(items: Items, tasks: list[str]) -> tuple[list[Mapping[str, Any]], dict[int, str]]:
    """For every row, task → label as the dataset has it; and row → why it cannot be read."""
    held = items.held_labels() if len(tasks) == 1 else None
    if held is not None:
        return [value if isinstance(value, Mapping) else {tasks[0]: value} for value in held], {}
    values: list[Mapping[str, Any]] = []
    broken = {}
    for row in range(len(items)):
        try:
            values.append(items.labels(row, items[row], tasks))
        except UnreadableRowError as error:
            values.append({})
            broken[row] = message_of(error.__cause__)
    return values, broken


def _numbers(target: Target, value: Any) -> Tensor | None:
    """A label as the target wants it, a class's name as its index, a mask as a mask; None if it is missing."""
    if value is None:
        return None
    if isinstance(value, str):
        names = (target.exclusive and target.class_names) or ()
        if value not in names:
            raise DataError(f"a label must be {f'one of {list(names)}' if names else target.rule}, found {value!r}")
        value = names.index(value)
    try:
        label = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):  # as torch raises for what is no number
        raise DataError(f"a label must be {target.rule}, found {reprlib.repr(value)}") from None
    if label.numel() == 1 and label.isnan():
        return None
    if label.numel() != prod(target.label_shape):
        raise DataError(f"a label must be {target.rule}, found {reprlib.repr(value)}")
    label = target.typed(label.reshape(target.label_shape))
    return tv_tensors.wrap(label, like=value) if isinstance(value, tv_tensors.TVTensor) else label


def _strata(split: ItemSplit, targets: Mapping[str, Target]) -> Tensor:
    """Class [N] of the first task that has classes."""
    for task, target in targets.items():
        if target.exclusive:
            return strata_of(target, split._labels[task], split.labelled[task])
    return torch.zeros(len(split), dtype=torch.int64)
