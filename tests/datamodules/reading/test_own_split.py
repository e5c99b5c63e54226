"""What a split of the user's own raises while it is read is told alike, whoever reads it."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.reader import Reader
from datamodules.sampling import Shared
from datamodules.sources import Source, Split, SplitName, TensorSplit, UnreadableRowError
from datamodules.splits.folds import Folds
from datamodules.targets import Continuous

ONE = torch.zeros(1, dtype=torch.int64)
FOUND = r"row {}: the split must give its rows, found KeyError: 'colour' \(line \d+ of test_own_split\.py\)"


class Own(Split):
    """Rows of which the fourth raises an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(6, {"size": torch.zeros(6)})
        self.error = error

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        if row == 3:
            raise self.error
        return torch.zeros(2), self.labels_of(row)


class Fast(Own):
    def __getitems__(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if 3 in rows:
            raise self.error
        return torch.zeros(len(rows), 2), {"size": self._labels["size"][rows]}


class OwnSource(Source):
    def __init__(self, split: Split) -> None:
        self.targets, self.only = {"size": Continuous()}, split

    def split(self, name: SplitName) -> Split:
        return self.only


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("kind", "where"), [(Own, "3"), (Fast, "0, row 1, row 2, …")])
def test_an_error_is_of_the_data_with_workers_and_without(workers: int, kind: type[Own], where: str) -> None:
    data = MultiTaskDataModule({"own": OwnSource(kind(KeyError("colour")))}, Shared(6), num_workers=workers)
    with pytest.raises(DataError) as raised:
        list(data.val_dataloader())
    assert re.fullmatch(FOUND.format(where), str(raised.value))


def test_the_error_itself_is_the_cause() -> None:
    error = KeyError("colour")
    with pytest.raises(DataError) as raised:
        Reader(skip=True)(Own(error), ONE + 3, ONE)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("kind", [Own, Fast])
def test_a_fold_of_it_is_the_users_too(kind: type[Own]) -> None:
    folded = OwnSource(kind(KeyError("colour"))).folded(Folds(2, 0))
    splits = [folded.split("train"), folded.split("val")]
    rows = [(split, ONE + row) for split in splits for row in range(len(split)) if split.key(row) == "3"]
    assert len(rows) == 2  # the same split is both for training and for validation
    for split, row in rows:
        with pytest.raises(DataError, match="^" + FOUND.format(3) + "$"):
            Reader()(split, row, ONE)


def test_a_broken_file_is_an_unreadable_row() -> None:
    split = Own(FileNotFoundError("no file"))
    with pytest.raises(UnreadableRowError, match=r"^row 3: must be readable, found: no file$"):
        Reader()(split, ONE + 3, ONE)
    assert Reader(skip=True)(split, ONE + 3, ONE).skipped == ["row 3: must be readable, found: no file"]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_the_machine_and_the_user_at_it_are_no_data(error: type[BaseException]) -> None:
    with pytest.raises(error):
        Reader()(Own(error()), ONE + 3, ONE)


def test_a_fault_of_our_own_split_stays_one() -> None:
    split = TensorSplit(torch.zeros(3, 2), {"size": torch.zeros(3)})
    with pytest.raises(IndexError):
        Reader()(split, ONE + 7, ONE)
