"""The layout of TensorBoard's custom scalars."""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from app.measuring.balance import BalanceFigures, curves
from app.training.module import MultiTaskModule


class Charts(Callback):
    """One chart a quantity and stage, with one line a task or layer; where classes have curves, one chart a task."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout to the event file."""
        assert isinstance(pl_module, MultiTaskModule)
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout(pl_module))


def layout(module: MultiTaskModule) -> dict[str, dict[str, list[str | list[str]]]]:
    """Quantity → chart → ["Multiline", regular expressions that the tags of its lines begin with]."""
    charts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for tag in (tag for stage in ("train", "val") for tag in module.stages[stage].higher_is_better()):
        quantity, stage, task, *of_class = tag.split("/")
        if task in module.network.tasks:
            charts[quantity][f"{quantity}/{stage}/{task}" if of_class else f"{quantity}/{stage}"].append(tag)
    tasks = len(module.network.tasks)
    every = BalanceFigures(*(torch.zeros(shape) for shape in ((tasks,), (tasks,), (tasks, tasks), ())))
    for tag in curves(list(module.network.tasks), "train", every):
        quantity, stage, _ = tag.split("/")
        if quantity in module.balancing.shows:
            charts[quantity][f"{quantity}/{stage}"].append(tag)
    lines: dict[str, dict[str, list[str | list[str]]]] = {
        quantity: {title: ["Multiline", [f"{re.escape(tag)}$" for tag in tags]] for title, tags in chart.items()}
        for quantity, chart in charts.items()
    }
    by_layer = ["lr", "trainable", "update_norm"] if module.fine_tuning else ["lr"]
    return lines | {quantity: {f"{quantity}/step": ["Multiline", [f"{quantity}/step/"]]} for quantity in by_layer}
