"""Folds of any source: every row is for validation once, with its own input, labels and name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import SPLITS, Digits, ImageSplit, Source, Split, SplitName, Table, TensorSplit
from datamodules.splits.folds import Folds
from datamodules.targets import Categorical, Continuous, Target

ROWS = {"train": 40, "val": 20, "test": 10}
STARTS = {"train": 0, "val": 100, "test": 200}


class Numbered(Source):
    """Rows that count from `STARTS`; three in ten have no kind, groups are of four rows, only `train` has a size."""

    def __init__(self, groups: bool = False, fast: bool = True) -> None:
        self.targets: dict[str, Target] = {"kind": Categorical(("a", "b", "c")), "size": Continuous()}
        self.groups, self.fast = groups, fast

    def split(self, name: SplitName) -> Split:
        value = torch.arange(STARTS[name], STARTS[name] + ROWS[name])
        labels = {"kind": value % 3} | ({"size": value.float()} if name == "train" else {})
        groups = value // 4 if self.groups else None
        return (TensorSplit if self.fast else Slow)(value[:, None].float(), labels, {"kind": value % 10 > 2}, groups)


class Slow(Split):
    """Rows that are read one by one."""

    def __init__(self, inputs: Tensor, labels: dict, labelled: dict, groups: Tensor | None) -> None:
        super().__init__(len(inputs), labels, labelled, groups)
        self.inputs = inputs

    def __getitem__(self, row: int) -> tuple[Any, dict[str, Tensor]]:
        return self.inputs[row], self.labels_of(row)

    def key(self, row: int) -> str:
        return f"key {int(self.inputs[row])}"

    def missing(self) -> list[int]:
        return [row for row in range(len(self)) if int(self.inputs[row]) % 7 == 0]


def values(split: Split, rows: Sequence[int] | None = None) -> list[int]:
    return [int(split[row][0]) for row in (range(len(split)) if rows is None else rows)]


@pytest.mark.parametrize("stratify", [None, "kind"])
@pytest.mark.parametrize("groups", [False, True])
def test_every_row_is_for_validation_in_one_fold_and_groups_stay_whole(groups: bool, stratify: str | None) -> None:
    held_out = []
    for fold in range(4):
        source = Numbered(groups).folded(Folds(4, fold, stratify, seed=1))
        train, val, test = (values(source.split(name)) for name in SPLITS)
        assert sorted(train + val) == [*range(40), *range(100, 120)]
        assert test == list(range(200, 210))
        assert train == sorted(train)
        assert val != list(range(min(val), min(val) + len(val)))  # shuffled
        if groups:
            assert not {value // 4 for value in train} & {value // 4 for value in val}
            assert torch.equal(source.split("val").groups, torch.tensor(val) // 4)
        held_out += val
    assert len(held_out) == 60


@pytest.mark.parametrize("groups", [False, True])
def test_every_fold_has_its_share_of_classes_and_of_unlabelled_rows(groups: bool) -> None:
    found = []
    for fold in range(4):
        value = torch.tensor(values(Numbered(groups).folded(Folds(4, fold, "kind")).split("val")))
        stratum = torch.where(value % 10 > 2, value % 3, 3)
        found.append(stratum.bincount(minlength=4).tolist())
    assert np.abs(np.array(found) - np.sum(found, axis=0) / 4).max() <= (2 if groups else 1)


def test_folds_follow_their_seed() -> None:
    first, again, other = (values(Numbered().folded(Folds(3, 0, seed=seed)).split("val")) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("fast", [True, False])
def test_labels_stay_with_their_rows(fast: bool) -> None:
    source = Numbered(fast=fast).folded(Folds(4, 2))
    for name in ("train", "val"):
        split = source.split(name)
        value = torch.tensor(values(split))
        assert torch.equal(split.labelled["kind"], value % 10 > 2)
        assert torch.equal(split.labels("kind"), (value % 3)[value % 10 > 2])
        assert torch.equal(split.labelled["size"], value < 40)
        assert torch.equal(split.labels("size"), value[value < 40].float())
        for row in range(len(split)):
            _, labels = split[row]
            assert list(labels) == ["kind", "size"]
            assert labels["kind"] == value[row] % 3
            assert labels["size"] == (value[row] if value[row] < 40 else 0)


def test_rows_in_memory_are_fetched_at_once_in_the_order_asked_for() -> None:
    split = Numbered().folded(Folds(4, 2)).split("train")
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:20]
    inputs, labels = split.__getitems__(rows)
    assert inputs.squeeze(1).tolist() == values(split, rows.tolist())
    assert labels["kind"].tolist() == [int(split.labels_of(row)["kind"]) for row in rows.tolist()]
    assert not hasattr(Numbered(fast=False).folded(Folds(4, 2)).split("train"), "__getitems__")


def test_names_keys_and_missing_files_are_those_of_the_source() -> None:
    split = Numbered(fast=False).folded(Folds(4, 2)).split("val")
    value = values(split)
    given = [("train", each) if each < 100 else ("val", each - 100) for each in value]
    assert [split.name(row) for row in range(15)] == [f"row {row} (of {name!r} before folding)" for name, row in given]
    assert [split.key(row) for row in range(15)] == [f"key {each}" for each in value]
    assert split.missing() == [row for row, each in enumerate(value) if each % 7 == 0]


def test_bad_labels_are_found_in_their_split() -> None:
    source = Numbered()
    source.targets = {"kind": Categorical(("a", "b")), "size": Continuous()}
    message = (
        "split 'train', of 'train' before folding, row 5, target 'kind': a label must be a class index from 0 to 1"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiTaskDataModule({"s": source}, folds=Folds(3, 0))


def numbers(folder: Path) -> Table:
    """Thirty rows; the feature is the row."""
    parts = ["train"] * 8 + ["val", "test"]
    lines = [f"{row},{'ab'[row % 2]},{parts[row % 10]}" for row in range(30)]
    (folder / "t.csv").write_text("\n".join(["x,y,part", *lines]) + "\n")
    return Table(folder / "t.csv", ["y"], features=["x"], split="part")


def test_a_table_takes_its_statistics_from_the_new_training_rows(tmp_path: Path) -> None:
    held_out = []
    for fold in range(3):
        table = numbers(tmp_path).folded(Folds(3, fold, "y"))
        train, val = table.split("train"), table.split("val")
        assert train.inputs.mean().item() == pytest.approx(0, abs=1e-6)
        assert train.inputs.std(correction=0).item() == pytest.approx(1)
        rows = np.array([int(train.key(row)) for row in range(len(train))])
        mine = [int(val.key(row)) for row in range(len(val))]
        expected = (np.array(mine) - rows.mean()) / rows.std()
        assert val.inputs.squeeze(1).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        assert val.labels("y").tolist() == [row % 2 for row in mine]
        assert [table.split("test").key(row) for row in range(3)] == ["9", "19", "29"]
        held_out += mine
    assert sorted(held_out) == [row for row in range(30) if row % 10 != 9]


def test_a_table_keeps_its_groups_together(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("x,y,person\n" + "".join(f"{r},{'ab'[r % 2]},{r // 3}\n" for r in range(60)))
    table = Table(tmp_path / "g.csv", ["y"], features=["x"], group="person").folded(Folds(4, 1))
    persons = [{int(split.key(row)) // 3 for row in range(len(split))} for split in map(table.split, SPLITS)]
    assert sum(map(len, persons)) == 20
    assert len(persons[1]) in (3, 4)


def test_images_that_occur_twice_are_not_torn_apart(tmp_path: Path) -> None:
    lines = [f"{r // 2}.png,{'ab'[r % 2]},{['train', 'train', 'val', 'test'][r // 10]}" for r in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["image,y,part", *lines]) + "\n")
    options = {"image": "image", "split": "part"}
    with pytest.raises(ValueError, match=r"^t\.csv: the same image must not be in two splits.*`group` keeps"):
        Table(tmp_path / "t.csv", ["y"], **options).folded(Folds(3, 0))
    Table(tmp_path / "t.csv", ["y"], group="image", **options).folded(Folds(3, 0))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_class_is_not_held_out_as_a_whole(tmp_path: Path, grouped: bool) -> None:
    """One row of each of three classes, among forty of another; with groups, of two rows each."""
    rare = {7: "r", 18: "s", 29: "t"}
    lines = [f"{r},{rare.get(r, 'a')},{['x', 'x|y'][r == 12]},{r // 2}" for r in range(43)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,tags,pair", *lines]) + "\n")
    table = Table(tmp_path / "t.csv", ["y", "tags"], features=["x"], group="pair" if grouped else None)
    held_out = []
    for source in (table, Wrapped(table)):
        for fold in range(3):
            data = MultiTaskDataModule({"t": source}, folds=Folds(3, fold, seed=1))
            held_out += [int(key) for split in data.datasets["val"].splits for key in map(split.key, range(len(split)))]
    only = {*rare, 12}
    assert set(held_out).isdisjoint(only | {row ^ 1 for row in only} if grouped else only)


class Wrapped(Source):
    """A source that is folded as any other."""

    def __init__(self, source: Source) -> None:
        self.source, self.targets = source, source.targets

    def split(self, name: SplitName) -> Split:
        return self.source.split(name)


class Photos(Source):
    """Images that are not there."""

    targets: dict[str, Target] = {"y": Continuous()}  # noqa: RUF012

    def split(self, name: SplitName) -> ImageSplit:
        return ImageSplit(Path("nowhere"), [f"{name}/{row}.png" for row in range(4)], {"y": torch.arange(4.0)})


def test_images_of_a_folded_source_are_opened_row_by_row() -> None:
    split = Photos().folded(Folds(2, 0)).split("train")
    assert not hasattr(split, "__getitems__")
    assert split.missing() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=rf"^{re.escape(split.key(2))}: the file must be there"):
        split[2]


def test_the_data_module_folds_every_source() -> None:
    digits = Digits(train_pairs=50, val_pairs=30, test_pairs=20)
    more = Digits(train_pairs=80, val_pairs=40, test_pairs=20, seed=1)
    sources = {"digits": Wrapped(digits), "more": Wrapped(more)}
    seen = []
    for fold in range(5):
        data = MultiTaskDataModule(sources, folds=Folds(5, fold, "left", seed=3))
        assert [len(data.datasets[name]) for name in SPLITS] == [160, 40, 40]
        (batch,) = data.val_dataloader()
        assert batch.counts == dict.fromkeys(data.targets, 40)
        seen.append(batch.inputs.flatten(1))
    whole = torch.cat(
        [source.split(name).inputs.flatten(1) for source in sources.values() for name in ("train", "val")]
    )
    assert sorted(torch.cat(seen).tolist()) == sorted(whole.tolist())


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (Folds(1, 0), "data.folds.k: must be at least 2, found 1"),
        (Folds(3, 3), "data.folds.fold: must be from 0 to 2, found 3"),
        (Folds(3, -1), "data.folds.fold: must be from 0 to 2, found -1"),
        (Folds(3, 0, "age"), "data.folds.stratify: must be a task with classes, one of ['kind'], found 'age'"),
        (Folds(3, 0, "size"), "data.folds.stratify: must be a task with classes, one of ['kind'], found 'size'"),
        (Folds(61, 0), "data.sources.s: data.folds.k: must be at most the 60 rows of train and val, found 61"),
        (
            Folds(30, 0, "kind"),
            "data.sources.s: data.folds.k: must be at most the 18 rows of the most frequent class of train and val",
        ),
    ],
)
def test_refused(folds: Folds, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        MultiTaskDataModule({"s": Numbered()}, folds=folds)


def test_more_folds_than_groups_are_refused() -> None:
    message = "data.sources.s: data.folds.k: must be at most the 15 groups of train and val, found 16"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MultiTaskDataModule({"s": Numbered(groups=True)}, folds=Folds(16, 0))


def test_a_source_without_the_task_is_divided_without_it() -> None:
    other = Numbered()
    other.targets = {"size": Continuous()}
    other.split = lambda name: TensorSplit(torch.zeros(10, 1), {"size": torch.arange(10.0)})
    data = MultiTaskDataModule({"s": Numbered(), "t": other}, folds=Folds(4, 0, "kind"))
    assert [len(split) for split in data.datasets["val"].splits] == [15, 5]
