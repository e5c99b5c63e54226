"""Builds each task's head, and refuses one that does not fit its task or the backbone."""

from __future__ import annotations

import torch

from app.tasks import HeadFactory, Task
from models.backbones.base import Shape
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.heads import DenseHead, Head, ReadingHead
from models.sharing import Sharing


def build_heads(
    tasks: ModulesByName[Task], sharing: Sharing, input_shape: Shape, default: HeadFactory | None
) -> ModulesByName[Head]:
    """Each task's head: the one that its configuration names, else `default`, else the one for its kind of target.

    Raises:
        ValueError: A head gives a prediction a pixel and the target has a label a row or vice versa, or the backbone
            has no maps that a dense head could read.
    """
    heads = {}
    for name, task in tasks.items():
        build, reads = task.config.head or default or task.default_head, task.config.reads
        width = task.config.embedding * len(reads)
        head = build([channels + width for channels in sharing.channels[name]], task.target.outputs)
        _check_kind(task, head)
        read = {each: tasks[each].target.outputs for each in reads}
        heads[name] = ReadingHead(head, read, task.config.embedding) if reads else head
    if dense := {name: head for name, head in heads.items() if tasks[name].target.dense}:
        _try(dense, sharing, input_shape)
    return ModulesByName[Head](heads)


def _check_kind(task: Task, head: Head) -> None:
    wants = task.target.dense
    if wants != isinstance(head, DenseHead):
        one = "a dense one, such as UpsamplingHead or DeepLabHead" if wants else "no dense one"
        raise ConfigurationError(
            f"model.tasks.{task.name}.head",
            f"must be {one}, for a target of kind {type(task.target).__name__}",
            f"{type(head).__name__}; where tasks are of both kinds, leave `model.head` out",
        )


@torch.no_grad()
def _try(heads: dict[str, Head], sharing: Sharing, input_shape: Shape) -> None:
    """Tell the heads the input's size, and show them the features of a blank image: what they are, a backbone tells."""
    if isinstance(input_shape, dict) or len(input_shape) != 3:
        raise ConfigurationError(
            "model.head", "a dense head needs images (channels, height, width) as inputs", input_shape
        )
    sharing.eval()
    features = sharing(sharing.blank(input_shape, 1), dict.fromkeys(heads, torch.zeros(1, dtype=torch.int64)))
    for name, head in heads.items():
        inner = head.head if isinstance(head, ReadingHead) else head
        assert isinstance(inner, DenseHead)
        inner.size = (input_shape[1], input_shape[2])
        try:
            head(features[name])
        except ConfigurationError as error:
            raise ConfigurationError(f"model.tasks.{name}.head", str(error)) from error
    sharing.train()
