"""The callbacks that every training has."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback
from torch import Tensor

from app.callbacks.charts import Charts
from app.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from app.callbacks.confusion_map import ConfusionMap
from app.callbacks.cosine_map import CosineMap
from app.callbacks.epoch_lines import EpochLines
from app.callbacks.interruption import Interruption
from app.callbacks.layer_curves import LayerCurves
from app.callbacks.learned_curves import LearnedCurves
from app.callbacks.non_finite import NonFinite
from app.callbacks.prediction_samples import PredictionSamples
from app.callbacks.resumption import Resumption
from app.callbacks.step_curves import StepCurves
from app.callbacks.thawing import Patience, Thawing
from app.measuring.metric_curves import made_up
from app.measuring.monitoring import direction
from app.measuring.stage import StageMetrics
from app.runs import identity
from app.tasks import Task
from app.tasks.decision import Decision
from app.training.module import MultiTaskModule
from app.training.schedulers import configured_epochs
from app.transfer import Schedule
from datamodules.multitask import MultiTaskDataModule
from models.errors import ConfigurationError


def callbacks_of_a_run(
    options: Namespace, model: MultiTaskModule, data: MultiTaskDataModule, schedule: Schedule | None, folder: Path
) -> list[Callback]:
    """What every training shows and saves.

    Args:
        options: Of the command line.
        model: What is trained.
        data: What it is trained on.
        schedule: Which layers are trained when, if not all of them always.
        folder: Of the run.

    Raises:
        ValueError: An option does not fit the others or the data.
    """
    monitor = options.monitor
    higher_is_better = direction(monitor, options.monitor_mode, model.stages["val"].higher_is_better())
    _check_monitor(monitor, model, data)
    _check_decisions(options, model, data)
    callbacks: list[Callback] = [Resumption(partial(identity, options, data))]
    if schedule is not None:
        epochs = configured_epochs(options.trainer.max_epochs, options.trainer.max_steps)
        callbacks += [Thawing(schedule, monitor, higher_is_better, epochs), LayerCurves()]
    callbacks += [EpochLines(monitor, higher_is_better), Charts()]
    callbacks += [
        StepCurves(),
        CosineMap(),
        LearnedCurves(),
        ConfusionMap(),
        PredictionSamples(),
        NonFinite(options.nan_patience),
        Interruption(),
    ]
    if options.patience is not None:
        callbacks.append(_patience(options, higher_is_better))
    if options.trainer.enable_checkpointing is not False:
        callbacks += [
            BestCheckpoint(folder, monitor, higher_is_better),
            LastCheckpoint(folder, every_n_steps=options.save_every_n_steps),
        ]
    return callbacks


def _patience(options: Namespace, higher_is_better: bool) -> Patience:
    if options.trainer.limit_val_batches == 0:
        raise ConfigurationError("patience", "needs validation, but trainer.limit_val_batches is 0", options.patience)
    return Patience(options.monitor, mode="max" if higher_is_better else "min", patience=options.patience)


def _check_monitor(monitor: str, model: MultiTaskModule, data: MultiTaskDataModule) -> None:
    """Refuse a curve that no row of the validation split makes."""
    tasks = model.network.tasks
    labelled = dict(zip(tasks, data.datasets["val"].labelled.any(dim=1), strict=True))
    task = monitor.split("/")[2]
    main = [name for name, each in tasks.items() if not each.config.auxiliary]
    if not any(labelled[name] for name in (main if task in ("total", "mean") else [task])):
        raise ConfigurationError("monitor", "must be of a task with a label in split 'val'", repr(monitor))
    if task in tasks and _undefined(monitor, model.stages["val"], tasks[task], data):
        raise ConfigurationError(
            "monitor", "must have a value where all labels of split 'val' are alike", repr(monitor)
        )


def _undefined(monitor: str, stage: StageMetrics, task: Task, data: MultiTaskDataModule) -> bool:
    """Whether a curve of the evaluation of a task has no value, whatever is predicted of the validation split."""
    if task.name not in stage.evaluations or monitor not in stage.evaluated_once(task, *made_up(task)):
        return False
    labels = _validated(task, data)
    return monitor not in stage.evaluated_once(task, *task.measured(task.no_outputs().expand(len(labels), -1), labels))


def _validated(task: Task, data: MultiTaskDataModule) -> Tensor:
    """The labels [N, ...] of a task in the validation split."""
    splits = data.datasets["val"].splits
    return torch.cat([split.labels(task.name) for split in splits if task.name in split.labelled])


def _check_decisions(options: Namespace, model: MultiTaskModule, data: MultiTaskDataModule) -> None:
    """Refuse a validation that cannot set what it is to set."""
    for name, task in model.network.tasks.items():
        if not any(isinstance(each, Decision) and each.is_fitted for each in task.modules()):
            continue
        option = "calibrate" if task.config.calibrate else "threshold"
        if options.trainer.limit_val_batches == 0:
            rule, found = "needs validation, but trainer.limit_val_batches is 0", getattr(task.config, option)
        elif (labels := _validated(task, data)).numel() == 0 or (labels == labels[0]).all():
            rule, found = "needs rows of both kinds in split 'val'", getattr(task.config, option)
        else:
            continue
        raise ConfigurationError(f"model.tasks.{name}.{option}", rule, found)
