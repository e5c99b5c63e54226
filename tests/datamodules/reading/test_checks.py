"""Sources, options and trainers that are refused, and the words in which they are."""

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import Source, SplitName, TensorSplit
from datamodules.targets import Categorical, Continuous, MultiLabel

KIND = Categorical(("a", "b", "c"))


class Rows(Source):
    """One task, with some part of the training split (or another) replaced."""

    def __init__(
        self, rows=6, split="train", inputs=None, labels=None, labelled=None, target=KIND, task="kind"
    ) -> None:
        self.targets = {task: target}
        self.changed, self.changes = split, (inputs, labels, labelled)
        self.rows, self.task = rows, task

    def split(self, name: SplitName) -> TensorSplit:
        inputs, labels, labelled = self.changes if name == self.changed else (None, None, None)
        inputs = torch.zeros(self.rows, 4) if inputs is None else inputs
        labels = torch.zeros(len(inputs), dtype=torch.long) if labels is None else labels
        named = labels if isinstance(labels, dict) else {self.task: labels}
        return TensorSplit(inputs, named, None if labelled is None else {self.task: labelled})


def at(row: int, value: float, rows: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros, and `value` in `row`."""
    labels = torch.zeros(rows, dtype=dtype)
    labels[row] = value
    return labels


NAN, INF = float("nan"), float("inf")
NONE = torch.zeros(6, dtype=torch.bool)
IN_S = "data.sources.s: "
REFUSED = {
    "no source": ({}, "data.sources: at least one source with one task is needed, found none"),
    "no rows": (
        {"s": Rows(split="val", inputs=torch.zeros(0, 4))},
        IN_S + "split 'val' must have at least one row, found none",
    ),
    "NaN input": (
        {"t": Rows(), "s": Rows(split="test", inputs=at(3, NAN)[:, None].repeat(1, 4))},
        IN_S + "split 'test', row 3: an input must be finite, found NaN or infinity",
    ),
    "infinite scalar input": ({"s": Rows(inputs=at(2, INF))}, IN_S + "split 'train', row 2: an input must be finite"),
    "NaN input of one modality": (
        {"s": Rows(inputs={"x": torch.zeros(6, 2), "y": at(4, NAN)[:, None]}, labels=at(0, 0))},
        IN_S + "split 'train', row 4: an input must be finite",
    ),
    "modalities of unequal length": (
        {"s": Rows(inputs={"x": torch.zeros(6, 2), "y": torch.zeros(5, 2)}, labels=at(0, 0))},
        IN_S + "split 'train', inputs of all modalities must have 6 rows, found 5",
    ),
    "class out of range": (
        {"s": Rows(labels=at(5, 3, dtype=torch.long))},
        IN_S + "split 'train', row 5, target 'kind': a label must be a class index from 0 to 2, found 3",
    ),
    "negative class": (
        {"s": Rows(labels=at(1, -1, dtype=torch.long), split="val")},
        IN_S + "split 'val', row 1, target 'kind': a label must be a class index from 0 to 2, found -1",
    ),
    "NaN target": (
        {"t": Rows(), "s": Rows(labels=at(2, NAN), target=Continuous(), task="size")},
        IN_S + "split 'train', row 2, target 'size': a label must be a finite number within ±3.4e+38, found nan",
    ),
    "bad row of several labels": (
        {"s": Rows(labels=at(4, 2)[:, None].repeat(1, 2), target=MultiLabel(("odd", "big")), task="flags")},
        IN_S + "split 'train', row 4, target 'flags': a label must be 2 values of 0 or 1, found [2.0, 2.0]",
    ),
    "labels of another shape": (
        {"s": Rows(labels=torch.zeros(6, 1))},
        IN_S + "split 'train', target 'kind': labels must have the shape (6,), found (6, 1)",
    ),
    "mask that is not bool": (
        {"s": Rows(labelled=torch.ones(6, dtype=torch.long))},
        IN_S + "split 'train', target 'kind': `labelled` must be bool of the shape (6,), found torch.int64 of (6,)",
    ),
    "mask of another length": (
        {"s": Rows(labelled=torch.ones(5, dtype=torch.bool))},
        IN_S + "split 'train', target 'kind': `labelled` must be bool of the shape (6,), found torch.bool of (5,)",
    ),
    "task without a training label": (
        {"s": Rows(labelled=NONE), "t": Rows(labelled=NONE)},
        "data.sources: target 'kind' must have a label on a row of split 'train', found none",
    ),
    "undeclared task": (
        {"s": Rows(labels={"kind": at(0, 0), "age": at(0, 0)})},
        IN_S + "labels of split 'train' must be of the tasks ['kind'], found ['age']",
    ),
    "sources that disagree on a target": (
        {"t": Rows(), "s": Rows(target=Continuous("m"))},
        IN_S + "target 'kind' must be what another source says it is, Categorical(classes=('a', 'b', 'c'), counts=()), "
        "found Continuous(unit='m', mean=0.0, std=1.0)",
    ),
    "sources that disagree on the classes": (
        {"t": Rows(), "s": Rows(target=Categorical(("a", "c", "b")))},
        IN_S + "target 'kind' must be what another source says it is",
    ),
    "sources that disagree on the input": (
        {"t": Rows(), "s": Rows(inputs=torch.zeros(6, 5))},
        "data.sources: all inputs must have one shape, found (4,) (t, split 'train') and (5,) (s, split 'train')",
    ),
    "splits that disagree on the input": (
        {"s": Rows(split="test", inputs={"x": torch.zeros(6, 4)}, labels=at(0, 0))},
        "data.sources: all inputs must have one shape, found (4,) (s, split 'train') and {'x': (4,)} (s, split 'test')",
    ),
    **{
        f"task name {name!r}": (
            {"s": Rows(task=name)},
            IN_S + f"a task's name must be of letters, digits, '_' and '-', found {name!r}",
        )
        for name in ("eye/colour", "eye.colour", "eye colour", "")
    },
    **{
        f"task name {name!r}": ({"s": Rows(task=name)}, IN_S + "a task's name must not be one of total, mean, ")
        for name in ("total", "mean", "row", "sample", "training")
    },
    **{
        f"inputs of {dtype}": (
            {"s": Rows(inputs=torch.zeros(6, 4).to(dtype))},
            IN_S + f"split 'train', inputs must be real numbers, or int64 where they are indices, found {dtype}",
        )
        for dtype in (torch.uint8, torch.bool, torch.complex64)
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_data(case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        MultiTaskDataModule(given)


@pytest.mark.parametrize("task", ["Augenfarbe", "größe", "sub-total", "9_2", "train"])
def test_usable_task_names(task: str) -> None:
    assert list(MultiTaskDataModule({"s": Rows(task=task)}).targets) == [task]


@pytest.mark.parametrize(
    ("given", "found"),
    [(torch.float64, torch.float32), (torch.float16, torch.float32), (torch.int64, torch.int64)],
)
def test_inputs_are_of_the_networks_type_and_indices_stay(given: torch.dtype, found: torch.dtype) -> None:
    inputs = torch.arange(6, dtype=given)[:, None].repeat(1, 4)
    (batch,) = MultiTaskDataModule({"s": Rows(inputs=inputs)}).train_dataloader()
    assert batch.inputs.dtype == found
    assert batch.inputs[:, 0].tolist() == batch.ids.tolist()


def test_one_input_alone_has_a_plain_shape() -> None:
    assert MultiTaskDataModule({"s": Rows()}).input_shape == (4,)


def test_bad_values_of_unlabelled_rows_are_not_looked_at() -> None:
    labelled = torch.tensor([True] * 5 + [False])
    data = MultiTaskDataModule({"s": Rows(labels=at(5, NAN), labelled=labelled, target=Continuous(), task="size")})
    assert (data.targets["size"].mean, data.targets["size"].std) == (0.0, 1.0)
    (batch,) = data.train_dataloader()
    assert batch.targets["size"].isfinite().all()
    assert 5 not in batch.ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_batch_size": 0}, r"data\.eval_batch_size: must be at least 1, found 0"),
        ({"num_workers": -1}, r"data\.num_workers: must not be negative, found -1"),
    ],
)
def test_refused_options(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}$"):
        MultiTaskDataModule({"s": Rows()}, **options)


def trainer(folder: Path, **options) -> Trainer:
    options = {"use_distributed_sampler": False, **options}
    return Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, logger=False, **options)


ONE_LABEL = torch.tensor([False, True, False, False, False, False])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (Rows(), {"callbacks": [GradientAccumulationScheduler({0: 1, 2: 4})]},
         r"trainer\.callbacks: GradientAccumulationScheduler .* set trainer\.accumulate_grad_batches"),
        (Rows(), {"devices": 2, "strategy": "ddp", "use_distributed_sampler": True},
         r"trainer\.use_distributed_sampler: .* set false"),
        (Rows(), {"overfit_batches": 2}, r"trainer\.overfit_batches: .* set trainer\.limit_train_batches"),
        (Rows(), {"overfit_batches": 0.5}, r"trainer\.overfit_batches: .*"),
        (Rows(split="val", inputs=torch.zeros(1, 4)), {"devices": 2, "strategy": "ddp"},
         r"trainer\.devices: split 'val' must have a row for each process, found 1 rows for 2 processes"),
        (Rows(labelled=ONE_LABEL), {"devices": 2, "strategy": "ddp"},
         r"trainer\.devices: split 'train' must have a row for each process, found 1 rows for 2 processes"),
    ],
    ids=["accumulation scheduler", "other sampler", "overfit", "overfit share", "few rows", "few labelled rows"],
)  # fmt: skip
def test_trainers_that_the_sampler_cannot_follow_are_refused(tmp_path: Path, source, options, message: str) -> None:
    data = MultiTaskDataModule({"s": source})
    data.trainer = trainer(tmp_path, **options)
    with pytest.raises(ValueError, match=rf"^{message}$"):
        data.setup("fit")


def test_two_processes_of_two_rows_are_fine(tmp_path: Path) -> None:
    data = MultiTaskDataModule({"s": Rows(rows=2)})
    data.trainer = trainer(tmp_path, devices=2, strategy="ddp")
    data.setup("fit")
    assert [len(batch.ids) for batch in data.train_dataloader()] == [2]  # of the first one, not a single row each
