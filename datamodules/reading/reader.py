"""How rows become tensors: read, transformed with random numbers of their own, stacked."""

from __future__ import annotations

import random
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info
from torchvision.transforms.v2 import functional

from datamodules.batch import Inputs
from datamodules.errors import DataError, UnreadableRowError
from datamodules.reading.maps import as_maps
from datamodules.sampling import Integers
from datamodules.sources import Split
from datamodules.sources.faults import message_of, rows_named
from datamodules.targets import Target

Transform = Callable[[Any, dict[str, Tensor]], tuple[Any, dict[str, Tensor]]]

ALL = slice(None)


@dataclass
class Rows:
    """What was read of some rows of a split.

    Attributes:
        inputs: [B', ...] of the rows that could be read; None if there are none.
        labels: task → [B', ...] of the same rows.
        kept: What to index by, for these rows among all that were asked for.
        skipped: Why each other row could not be read.
    """

    inputs: Inputs | None
    labels: dict[str, Tensor]
    kept: Integers | slice
    skipped: list[str]


class Reader:
    """Reads rows of splits.

    What is random, in a transform or in the split itself, draws the same for the same visit to the same row, on
    whatever process, in whatever batch: the generators of torch, NumPy and Python are seeded with (seed, source, row,
    visit), and left as they were.

    Args:
        transform: What is done to the input of a row and to labels that lie on it, such as masks.
        seed: Of random transforms.
        skip: Leave rows out that cannot be read, in place of raising.
        targets: Task → what its label is: labels of a value a pixel move with the image.
    """

    def __init__(
        self,
        transform: Transform | None = None,
        seed: int = 0,
        skip: bool = False,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        self.transform, self.seed, self.skip, self.targets = transform, seed, skip, targets or {}

    def __call__(self, split: Split, rows: Tensor, visits: Tensor, source: int = 0) -> Rows:
        """Read `rows` [B] of the split of a source, each for the time that `visits` [B] counts.

        Raises:
            UnreadableRowError: A row cannot be read, and is not to be skipped.
            ValueError: An input cannot be transformed, or inputs differ in shape.
        """
        if self.transform is None and hasattr(split, "__getitems__"):
            with rows_named(split, rows):
                inputs, found = split.__getitems__(rows)
            return Rows(inputs, found, ALL, [])
        samples: list[Any] = []
        labels: list[dict[str, Tensor]] = []
        kept: list[int] = []
        skipped: list[str] = []
        with _generators_kept():
            for place, (row, visit) in enumerate(zip(rows.tolist(), visits.tolist(), strict=True)):
                _seed(self.seed, source, row, visit)
                try:
                    sample, labels_of = self._read(split, row)
                except UnreadableRowError as error:
                    if not self.skip:
                        raise
                    skipped.append(str(error))
                    continue
                kept.append(place)
                samples.append(sample)
                labels.append(labels_of)
        if not samples:
            return Rows(None, {}, np.array(kept, dtype=np.int64), skipped)
        inputs = _stack(samples, lambda place: split.name(int(rows[kept[place]])))
        stacked = {task: torch.stack([each[task] for each in labels]) for task in labels[0]}
        return Rows(inputs, stacked, np.array(kept) if skipped else ALL, skipped)

    def _read(self, split: Split, row: int) -> tuple[Any, dict[str, Tensor]]:
        """One row, transformed."""
        with rows_named(split, [row]):
            sample, labels = split[row]
        if self.transform is None:
            return sample, labels
        try:
            return self.transform(sample, as_maps(self.targets, labels))
        except DataError as error:
            raise DataError(split.name(row), str(error)) from error
        except Exception as error:  # in a worker it would end in torch's traceback of it
            found = f"{type(error).__name__}: {message_of(error)}"
            raise DataError(split.name(row), "data.transform must take it", found) from error


def _stack(samples: list[Any], name: Callable[[int], str]) -> Inputs:
    """Samples of one shape as one tensor [B, ...], or as one a modality; `name` says what the user calls the n-th."""
    if isinstance(samples[0], dict):
        return {modality: _stack_tensors([sample[modality] for sample in samples], name) for modality in samples[0]}
    return _stack_tensors(samples, name)


def _stack_tensors(samples: list[Any], name: Callable[[int], str]) -> Tensor:
    tensors = [_tensor(sample, name, place) for place, sample in enumerate(samples)]
    shapes = [tensor.shape for tensor in tensors]
    for place, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise DataError(
                name(place),
                f"all inputs must have one shape, {tuple(shapes[0])} as {name(0)}",
                f"{tuple(shape)}; a `data.transform` can resize them",
            )
    stacked: Tensor = default_collate(tensors)  # in a worker, straight into shared memory
    if stacked.is_floating_point() and not stacked.sum().isfinite():  # a sum alone may overflow
        _check_finite(stacked, name)
    return stacked


def _check_finite(x: Tensor, name: Callable[[int], str]) -> None:
    """Refuse the first row of x [B, ...] that has a number which is not finite."""
    wrong = ~x.isfinite()
    if wrong.any():
        place = int(wrong.flatten(1).any(1).nonzero()[0])
        raise DataError(name(place), "an input must have finite numbers alone", x[place][wrong[place]][0].item())


def _tensor(sample: Any, name: Callable[[int], str], place: int) -> Tensor:
    """An image (PIL, or uint8 [C, H, W]) in [0, 1], or other numbers as they are, real ones in the default type."""
    if isinstance(sample, np.ndarray) and sample.dtype.kind in "fiub":
        sample = torch.as_tensor(sample)
    elif isinstance(sample, Image):
        sample = functional.to_image(sample)
    if not isinstance(sample, Tensor) or sample.is_complex():
        rule = "an input must be an image, or an array or tensor of real numbers"
        raise DataError(name(place), rule, f"{type(sample).__name__} {reprlib.repr(sample)}")
    x: Tensor = sample.as_subclass(Tensor)
    if x.dtype == torch.uint8:
        return x.to(torch.get_default_dtype()) / 255
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x


def _seed(seed: int, source: int, row: int, visit: int) -> None:
    """Seed the generators that transforms draw from; Python's takes a number of any length, and seeds the others."""
    random.seed((seed << 192) + (source << 128) + (row << 64) + visit)
    torch.default_generator.manual_seed(random.getrandbits(64))
    np.random.seed(random.getrandbits(32))


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Give the global generators back as they were; in a loader's worker nobody else draws from them."""
    if get_worker_info() is not None:
        yield
        return
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
