"""The layout of TensorBoard's custom scalars."""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from app.measuring.balance import BalanceFigures, curves
from app.training.module import MultiTaskModule

TASKS = "(?!(total|mean)$)[^/]+$"  # of one number each, without what they have in common
ANY = ".+$"


class Charts(Callback):
    """One chart a quantity and stage, with one line a task or layer; where classes have curves, one chart a task."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout to the event file."""
        assert isinstance(pl_module, MultiTaskModule)
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout(pl_module))


def layout(module: MultiTaskModule) -> dict[str, dict[str, list[str | list[str]]]]:
    """Quantity → chart → ["Multiline", a regular expression that the tags of its lines match].

    It names no task: TensorBoard puts equal charts of several runs into one, whatever the tasks of each.
    """
    charts: dict[str, dict[str, str]] = defaultdict(dict)
    for tag in (tag for stage in ("train", "val") for tag in module.stages[stage].higher_is_better()):
        quantity, stage, task, *of_class = tag.split("/")
        if task in module.network.tasks:
            title = f"{quantity}/{stage}/{task}" if of_class else f"{quantity}/{stage}"
            charts[quantity][title] = f"{re.escape(title)}/{ANY if of_class else TASKS}"
    tasks = len(module.network.tasks)
    every = BalanceFigures(*(torch.zeros(shape) for shape in ((tasks,), (tasks,), (tasks, tasks), ())))
    for tag in curves(list(module.network.tasks), "train", every):
        quantity, stage, _ = tag.split("/")
        if quantity in module.balancing.shows:
            charts[quantity][f"{quantity}/{stage}"] = f"{quantity}/{stage}/{ANY}"
    by_layer = ["lr", "trainable", "update_norm"] if module.fine_tuning else ["lr"]
    charts |= {quantity: {f"{quantity}/step": f"{quantity}/step/{ANY}"} for quantity in by_layer}
    return {
        quantity: {title: ["Multiline", [lines]] for title, lines in chart.items()}
        for quantity, chart in charts.items()
    }
