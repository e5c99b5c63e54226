"""Prints what the data is, and draws a contact sheet of a training batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jsonargparse import Namespace
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from rich.console import Console
from rich.table import Table
from torch import Tensor

from app.reports.data.opening import open_all
from app.reports.data.sheet import contact_sheet, labels_of, maps_of_row, pictures, some_rows
from app.reports.data.tables import dates, drawn, feature_table, gaps, many_texts, task_table
from app.reports.imbalance import rare_classes
from app.runs import RUNS, whole_file
from datamodules.batch import MultiTaskBatch
from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.reader import Reader
from datamodules.sampling import DrawSampler, World
from datamodules.targets import Target
from models.errors import ConfigurationError

MOST_PICTURES = 32
SAMPLED = 32  # training rows whose pixels are counted


def report_data(options: Namespace, data: MultiTaskDataModule) -> None:
    """Print tables of tasks and features and the size of a step, open every image, write `runs/<name>/data.png`.

    Args:
        options: Of the command line; the trainer's say how many processes and micro-batches a step has.
        data: The data that they describe.

    Raises:
        ValueError: The sampling does not fit the data or the number of processes, or a row cannot be read.
    """
    table, step, batch = survey(options.trainer, data)
    console = Console()
    console.print(table)
    if data.columns.features:
        console.print(feature_table(data.columns.features))
    opened = open_all(data, Console(stderr=True))
    lines = [
        step,
        *dates(data.columns.features),
        *gaps(data.columns.features),
        *many_texts(data.columns.features),
        *opened,
        *rare_classes(data.targets),
        *batch.skipped,
        _draw_sheet(batch, data, options.name),
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def survey(trainer: Namespace, data: MultiTaskDataModule) -> tuple[Table, str, MultiTaskBatch]:
    """The table of the tasks, what a step is, and the first batch that the first process trains on."""
    ranks, accumulate = processes(trainer), trainer.accumulate_grad_batches
    limit = 1.0 if trainer.limit_train_batches is None else trainer.limit_train_batches
    world = World(ranks=ranks, accumulate=accumulate, limit=limit)
    train, plan = data.datasets["train"], data.train_plan(world)
    micro_batches = world.limited(len(plan))
    if not micro_batches:
        raise ConfigurationError("trainer.limit_train_batches", "must leave a batch", trainer.limit_train_batches)
    draws = drawn(plan, micro_batches, accumulate)
    labelled = {split: dataset.labelled for split, dataset in data.datasets.items()}
    sampler = DrawSampler(plan, world)
    step = (
        f"A step has {draws.rows:.4g} rows on average ({_counted(ranks, 'process', 'processes')}, "
        f"{_counted(accumulate, 'micro-batch', 'micro-batches')} each), "
        f"an epoch {_counted(draws.steps, 'step', 'steps')}."
    )
    table = task_table(data.targets, labelled, draws, sampled_labels(train, data.targets))
    return table, step, train[next(iter(sampler))]


def sampled_labels(dataset: MultiTaskDataset, targets: Mapping[str, Target]) -> dict[str, list[Tensor]]:
    """Dense task → its labels in some rows, spread evenly, that can be read; before any transform."""
    reader = Reader(skip=True)
    labels: dict[str, list[Tensor]] = {}
    for task in (task for task, target in targets.items() if target.dense):
        rows = dataset.labelled[dataset.tasks.index(task)].nonzero().squeeze(1)
        some = rows[some_rows(len(rows), SAMPLED)]
        read = [reader(split, torch.tensor([row]), torch.tensor([0])) for split, row in dataset.located(some)]
        labels[task] = [each.labels[task][0] for each in read if each.inputs is not None]
    return labels


def processes(trainer: Namespace) -> int:
    """How many processes the trainer's settings start.

    Raises:
        ValueError: The number of devices is none.
    """
    on_gpu = trainer.accelerator in ("gpu", "cuda") or (
        trainer.accelerator == "auto" and CUDAAccelerator.is_available()
    )
    accelerator = CUDAAccelerator if on_gpu else CPUAccelerator
    auto = trainer.devices == "auto"
    try:
        devices = accelerator.auto_device_count() if auto else accelerator.parse_devices(trainer.devices)
    except TypeError as error:
        raise ConfigurationError("trainer.devices", str(error)) from error
    each = len(devices) if isinstance(devices, list) else devices
    return int(trainer.num_nodes) * (each or 1)


def _draw_sheet(batch: MultiTaskBatch, data: MultiTaskDataModule, name: str) -> str:
    """Write the contact sheet, and say where."""
    images = pictures(batch.inputs)
    if images is None:
        return f"No contact sheet: inputs are not images of 1 or 3 channels, but of the shape {data.input_shape}."
    rows = some_rows(len(images), MOST_PICTURES)
    part = "all" if len(rows) == len(images) else f"{len(rows)} of the"
    title = f"{name}: {part} {len(images)} rows of a training batch, after the transforms"
    labels = [labels_of(batch, row, data.targets) for row in rows]
    sheet = contact_sheet(images[rows], labels, title, [maps_of_row(batch, row, data.targets) for row in rows])
    path = RUNS / Path(name) / "data.png"
    with whole_file(path) as file:
        sheet.save(file, "PNG")
    return f"A training batch after the transforms, with its labels: {path}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
