"""Sources in, batches out: what belongs to a row stays with it."""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.batch import MultiTaskBatch
from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.dataset import MultiTaskDataset
from datamodules.sampling import DrawSampler, PerTask, Sampling, Shared, World
from datamodules.sources import SPLITS, Source, SplitName, TensorSplit
from datamodules.targets import Categorical, Continuous, MultiLabel, Target

TARGETS: dict[str, Target] = {
    "kind": Categorical(("a", "b", "c")),
    "size": Continuous("m"),
    "flags": MultiLabel(("odd", "big")),
}


def label(task: str, value: Tensor) -> Tensor:
    """What the row whose inputs are `value` is labelled with."""
    if task == "kind":
        return value.long() % 3
    return value * 0.5 if task == "size" else torch.stack([value % 2, (value > 1000).float()], dim=1)


class Numbered(Source):
    """Rows whose inputs are `start`, `start` + 1, … in training and so on: every row of every source is another."""

    def __init__(self, start: int, tasks: str, rows: tuple[int, int, int] = (31, 7, 9), partial: bool = False) -> None:
        self.targets = {task: TARGETS[task] for task in tasks.split()}
        self.splits = {}
        for name, size in zip(SPLITS, rows, strict=True):
            value = torch.arange(start, start + size).float()
            start += size
            inputs = {"image": value[:, None, None].expand(-1, 2, 3), "text": -value[:, None]}
            masks = {task: value % 5 == number for number, task in enumerate(self.targets)} if partial else None
            labels = {task: label(task, value) for task in self.targets}
            for task, mask in (masks or {}).items():
                labels[task][~mask] = -100 if task == "kind" else float("nan")  # never to be read
            self.splits[name] = TensorSplit(inputs, labels, masks)

    def split(self, name: SplitName) -> TensorSplit:
        return self.splits[name]


def sources() -> dict[str, Source]:
    return {
        "all": Numbered(0, "kind size flags"),
        "sizes": Numbered(500, "size", rows=(90, 11, 5)),
        "partial": Numbered(2000, "flags kind", rows=(43, 20, 20), partial=True),
    }


def values_and_labels(split: SplitName) -> tuple[Tensor, Tensor]:
    """The input of every row of all sources, and which tasks it is labelled for, [T, N]."""
    parts = [source.split(split) for source in sources().values()]
    values = torch.cat([-part.inputs["text"].squeeze(1) for part in parts])
    absent = [torch.zeros(len(part), dtype=torch.bool) for part in parts]
    masks = [[part.labelled.get(task, none) for part, none in zip(parts, absent, strict=True)] for task in TARGETS]
    return values, torch.stack([torch.cat(each) for each in masks])


def check(batch: MultiTaskBatch, split: SplitName) -> None:
    """The batch's inputs, targets, rows and ids all speak of the same rows."""
    values, labelled = values_and_labels(split)
    mine = values[batch.ids]
    assert torch.equal(batch.inputs["image"], mine[:, None, None].expand(-1, 2, 3))
    assert torch.equal(batch.inputs["text"], -mine[:, None])
    assert list(batch.targets) == list(batch.rows)
    assert list(batch.counts) == list(TARGETS)
    for task, rows in batch.rows.items():
        assert len(rows)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert labelled[list(TARGETS).index(task), batch.ids[rows]].all()
        assert torch.equal(batch.targets[task], label(task, mine[rows]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampling", [Shared(16), PerTask(epoch_length=12, batch_size=8)], ids=["shared", "per_task"])
def test_inputs_targets_rows_and_ids_correspond(sampling: Sampling, workers: int) -> None:
    data = MultiTaskDataModule(sources(), sampling, num_workers=workers)
    data.setup("fit")
    batches = list(data.train_dataloader())
    _, labelled = values_and_labels("train")
    assert len(batches) == len(data.train_dataloader()) == data.train_batches()
    for batch in batches:
        check(batch, "train")
        assert {task: len(rows) for task, rows in batch.rows.items()} == {t: n for t, n in batch.counts.items() if n}
        if isinstance(sampling, PerTask):
            assert batch.counts == dict.fromkeys(TARGETS, 8)
    if isinstance(sampling, Shared):
        fed = {
            task: sorted(torch.cat([b.ids[b.rows[task]] for b in batches if task in b.rows]).tolist())
            for task in TARGETS
        }
        assert fed == {task: mask.nonzero().flatten().tolist() for task, mask in zip(TARGETS, labelled, strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("loader", ["val", "test", "predict"])
def test_evaluation_visits_every_row_once_in_order(loader: str, workers: int) -> None:
    data = MultiTaskDataModule(sources(), eval_batch_size=10, num_workers=workers)
    split = "val" if loader == "val" else "test"
    values, labelled = values_and_labels(split)
    assert not labelled.any(dim=0).all()  # rows without any label are evaluated too
    batches = list(getattr(data, f"{loader}_dataloader")())
    assert torch.equal(torch.cat([batch.ids for batch in batches]), torch.arange(len(values)))
    for batch in batches:
        check(batch, split)
        assert batch.counts == dict(zip(TARGETS, labelled[:, batch.ids].sum(dim=1).tolist(), strict=True))
        assert set(batch.rows) == {task for task, rows in batch.counts.items() if rows}


def test_statistics_are_pooled_over_the_labelled_rows_of_all_sources() -> None:
    data = MultiTaskDataModule(sources())
    values, labelled = values_and_labels("train")
    of = {task: label(task, values[mask]).numpy() for task, mask in zip(TARGETS, labelled, strict=True)}
    kind, size, flags = data.targets.values()
    assert list(data.targets) == list(TARGETS)
    assert kind.counts == tuple(np.bincount(of["kind"]))
    assert (size.unit, size.mean) == ("m", pytest.approx(of["size"].mean(dtype=float), rel=1e-12))
    assert size.std == pytest.approx(of["size"].std(dtype=float), rel=1e-9)
    assert flags.positives == pytest.approx(of["flags"].mean(axis=0, dtype=float), rel=1e-12)


def test_input_shape_is_that_of_one_row() -> None:
    assert MultiTaskDataModule(sources()).input_shape == {"image": (2, 3), "text": (1,)}


def test_order_follows_the_seed() -> None:
    def ids(seed: int) -> list[list[int]]:
        return [batch.ids.tolist() for batch in MultiTaskDataModule(sources(), seed=seed).train_dataloader()]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_loading_draws_nothing_from_the_global_generator() -> None:
    data = MultiTaskDataModule(sources())
    before = torch.get_rng_state()
    assert list(data.train_dataloader())
    assert list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_task_with_no_rows_in_a_batch_is_not_in_it() -> None:
    data = MultiTaskDataModule(
        {"kinds": Numbered(0, "kind", rows=(20, 4, 4)), "sizes": Numbered(500, "size")}, Shared(1)
    )
    for batch in data.train_dataloader():
        (task,) = batch.rows
        assert task == ("kind" if batch.ids[0] < 20 else "size")
        assert batch.counts == {"kind": int(task == "kind"), "size": int(task == "size")}


@pytest.mark.parametrize("ranks", [2, 3])
def test_counts_and_rows_add_up_over_ranks(ranks: int) -> None:
    data = MultiTaskDataModule(sources())
    dataset: MultiTaskDataset = data.datasets["train"]
    plan = Shared(5).plan(dataset.labelled, dataset.tasks, seed=0, ranks=ranks)
    draws = [DrawSampler(plan, World(rank, ranks, 2)) for rank in range(ranks)]
    for draw_of_each in zip(*draws, strict=True):
        batches = [dataset[draw] for draw in draw_of_each]
        for batch in batches:
            assert batch.counts == batches[0].counts
            if len(batch.ids):
                check(batch, "train")
            else:  # of the last page, which has two rows for each of the others
                assert (batch.rows, batch.targets, len(batch.inputs)) == ({}, {}, 0)
    assert len(dataset) == 31 + 90 + 43


class Record(LightningModule):
    """Keeps what it is trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[MultiTaskBatch]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: MultiTaskBatch, batch_idx: int) -> Tensor:
        self.seen[-1].append(batch)
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **options) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options = {"use_distributed_sampler": False, **options}
    return Trainer(
        accelerator="cpu", enable_model_summary=False, default_root_dir=folder,
        limit_val_batches=0, **quiet, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("limit", "batches"), [(1.0, 13), (1, 1), (5, 5), (100, 13), (0.5, 6), (0.3, 3)], ids=str)
def test_limited_epochs_have_the_counts_of_the_windows_that_are_trained(
    tmp_path: Path, limit: int | float, batches: int
) -> None:
    model, data = Record(), MultiTaskDataModule(sources(), Shared(11))  # 139 of 164 rows have a label: 13 pages
    fit = trainer(tmp_path, max_epochs=2, limit_train_batches=limit, accumulate_grad_batches=2)
    fit.fit(model, datamodule=data)
    assert data.train_batches() == batches
    assert [len(epoch) for epoch in model.seen] == [batches, batches]
    assert fit.global_step == 2 * ceil(batches / 2)
    for epoch in model.seen:
        for first in range(0, batches, 2):
            window = epoch[first : first + 2]
            rows = {task: sum(len(batch.rows.get(task, ())) for batch in window) for task in TARGETS}
            assert all(batch.counts == rows for batch in window)
    assert [b.ids.tolist() for b in model.seen[0]] != [b.ids.tolist() for b in model.seen[1]]


def test_every_epoch_of_a_trainer_has_its_own_order_with_workers(tmp_path: Path) -> None:
    model, data = Record(), MultiTaskDataModule(sources(), Shared(32), num_workers=2)
    trainer(tmp_path, max_epochs=3).fit(model, datamodule=data)
    orders = [[row for batch in epoch for row in batch.ids.tolist()] for epoch in model.seen]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert len({tuple(order) for order in orders}) == 3
    plan = Shared(32).plan(data.datasets["train"].labelled, list(TARGETS), seed=0)
    assert [set(b.ids.tolist()) for b in model.seen[2]] == [set(plan.draw(2, s)[0].tolist()) for s in range(len(plan))]


def test_works_outside_a_trainer() -> None:
    data = MultiTaskDataModule(sources())
    for stage in ("fit", "validate", "test", "predict"):
        data.setup(stage)
    assert data.train_batches() == len(list(data.train_dataloader())) == 3
    assert [len(list(loader)) for loader in (data.val_dataloader(), data.test_dataloader())] == [1, 1]
