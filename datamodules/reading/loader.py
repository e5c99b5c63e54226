"""Loads the batches of a dataset, ahead in processes of its own where there are any."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datamodules.batch import MultiTaskBatch
from datamodules.errors import DataError
from datamodules.reading.dataset import MultiTaskDataset
from datamodules.sampling import Draw, DrawSampler


def load(
    dataset: MultiTaskDataset, sampler: DrawSampler, workers: int = 0, pin_memory: bool = False, seed: int = 0
) -> BatchLoader:
    """The batches that `sampler` draws from `dataset`.

    Args:
        dataset: The dataset.
        sampler: The draws, a batch each.
        workers: Processes that load batches ahead; 0 loads them here.
        pin_memory: Whether batches go to page-locked memory, from where a GPU takes them.
        seed: Of the workers.
    """
    return BatchLoader(
        BatchesOrErrors(dataset),
        sampler=sampler,
        batch_size=None,  # a draw is a batch already
        collate_fn=_as_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_leave_interrupts_to_the_main_process,
        generator=torch.Generator().manual_seed(seed),  # without it, each epoch draws from the global one
    )


class BatchesOrErrors(Dataset[MultiTaskBatch | DataError]):
    """A dataset that gives, in place of a batch, the error that it raises: torch would make text of a worker's.

    Args:
        dataset: The dataset.
    """

    def __init__(self, dataset: MultiTaskDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> MultiTaskBatch | DataError:
        """A batch, or what is wrong with the data; a worker's traceback is a note of it."""
        try:
            return self.dataset[draw]
        except DataError as error:
            if get_worker_info() is not None:
                error.add_note(traceback.format_exc())
            return error


class BatchLoader(DataLoader[Any]):
    """A loader of `BatchesOrErrors`, which raises the errors; built as any other, since Lightning does so anew."""

    dataset: BatchesOrErrors

    def __iter__(self) -> Iterator[MultiTaskBatch]:  # type: ignore[override]  # which names its own iterator
        """The batches of an epoch.

        Raises:
            UnreadableRowError: A row cannot be read and is not to be skipped.
            ValueError: An input or a label is not what it must be.
        """
        return map(_raised, super().__iter__())  # no generator: the position is read now, not at the first `next`

    @property
    def rows(self) -> MultiTaskDataset:
        """The dataset that the batches are of."""
        return self.dataset.dataset


def _raised(item: MultiTaskBatch | DataError) -> MultiTaskBatch:
    if isinstance(item, DataError):
        raise item
    return item


def _as_is(batch: Any) -> Any:
    return batch


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
