"""The items of a dataset of torch, taken apart into inputs and labels."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from PIL import Image
from torch.utils.data import IterableDataset

from datamodules.errors import DataError
from datamodules.sources.faults import named


class Items:
    """A dataset's items, taken apart.

    Args:
        origin: What the user calls the dataset: train, val or test.
        dataset: The dataset.
        keys: Key or keys of a dict's input.
    """

    def __init__(self, origin: str, dataset: Any, keys: str | list[str] | None) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise DataError(origin, "must be a dataset with a length", type(dataset).__name__)
        self.origin, self.dataset, self.keys = origin, dataset, keys

    def __len__(self) -> int:
        """Number of items N."""
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        """An item: (input, target), or a dict.

        Raises:
            UnreadableRowError: The dataset cannot read it.
            ValueError: It is of another kind, or the dataset fails for another reason.
        """
        with self._reading(row):
            item = self.dataset[row]
        if isinstance(item, Mapping) or (isinstance(item, tuple | list) and len(item) == 2):
            return item
        raise DataError(self.name(row), "an item must be (input, target) or a dict", type(item).__name__)

    def name(self, row: int) -> str:
        """What the user calls a row."""
        return f"row {row} of {self.origin}"

    def input(self, row: int, item: Any) -> Any:
        """The input of a row's item, or its inputs by modality; PIL images in it are decoded.

        Raises:
            UnreadableRowError: An image's file is broken.
            ValueError: It has not the keys that are asked for.
        """
        content = self._content(row, item)
        with self._reading(row):
            for each in content.values() if isinstance(content, Mapping) else [content]:
                if isinstance(each, Image.Image):
                    each.load()
        return content

    def _content(self, row: int, item: Any) -> Any:
        content = item if isinstance(item, Mapping) else item[0]
        if self.keys is None and content is not item:
            return content
        keys = [self.keys] if isinstance(self.keys, str) else self.keys
        if keys is None or not isinstance(content, Mapping) or not set(keys) <= set(content):
            found = sorted(content) if isinstance(content, Mapping) else type(content).__name__
            raise DataError(self.name(row), f"`inputs` must be keys of the item, {self.keys!r}", found)
        return content[self.keys] if isinstance(self.keys, str) else {key: content[key] for key in keys}

    def labels(self, row: int, item: Any, tasks: Sequence[str]) -> dict[str, Any]:
        """Task → label of a row's item, as the dataset has it; None where there is none.

        Raises:
            ValueError: There are not as many labels as tasks.
        """
        target = item if isinstance(item, Mapping) else item[1]
        if isinstance(target, Mapping):
            return {task: target.get(task) for task in tasks}
        if len(tasks) == 1:
            return {tasks[0]: target}
        if isinstance(target, str) or not hasattr(target, "__len__") or len(target) != len(tasks):
            found = reprlib.repr(target)
            raise DataError(self.name(row), f"a target must have a label for each of {list(tasks)}", found)
        return dict(zip(tasks, target, strict=True))

    def held_labels(self) -> Any:
        """The labels of all rows, where the dataset holds them as torchvision's do; else None."""
        if getattr(self.dataset, "target_transform", None) is None:
            for name in ("targets", "labels"):
                values: Any = getattr(self.dataset, name, None)
                if hasattr(values, "__len__") and len(values) == len(self):
                    return values.tolist() if hasattr(values, "tolist") else values
        return None

    def _reading(self, row: int) -> AbstractContextManager[None]:
        return named(lambda: self.name(row), "the dataset must give an item")
