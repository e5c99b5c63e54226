"""What sources must agree on, and what is worked out from their training splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datamodules.batch import Inputs
from datamodules.errors import DataError
from datamodules.reading.reader import Reader
from datamodules.sources import Source, Split, SplitName
from datamodules.targets import Target

Shape = tuple[int, ...]

RESERVED = ("total", "mean", "row", "source", "sample", "training")


def declared_targets(sources: Mapping[str, Source]) -> dict[str, Target]:
    """All tasks of all sources, in the order of their first appearance.

    Raises:
        ValueError: There is none, a name cannot be used, or two sources disagree on what a task's label is.
    """
    targets: dict[str, Target] = {}
    for source, content in sources.items():
        for task, target in content.targets.items():
            if not re.fullmatch(r"[\w-]+", task):  # it names curves, `<quantity>/<stage>/<task>`, and modules
                raise DataError(
                    f"data.sources.{source}", "a task's name must be of letters, digits, '_' and '-'", repr(task)
                )
            if task in RESERVED:
                raise DataError(
                    f"data.sources.{source}",
                    f"a task's name must not be one of {', '.join(RESERVED)}, which name other curves, "
                    "columns and modules",
                    repr(task),
                )
            if targets.setdefault(task, target) != target:
                raise DataError(
                    f"data.sources.{source}",
                    f"target {task!r} must be what another source says it is, {targets[task]}",
                    target,
                )
    if not targets:
        raise DataError("data.sources", "at least one source with one task is needed", "none")
    return targets


def check_split(name: SplitName, splits: Mapping[str, Split], targets: Mapping[str, Target]) -> None:
    """Check the split `name` of every source, source → split.

    Raises:
        ValueError: It is empty, holds a bad input or label or one of an unknown task, or (in training) a task has no
            label at all.
    """
    for source, split in splits.items():
        if not len(split):
            raise DataError(f"data.sources.{source}", f"split {name!r} must have at least one row", "none")
        if unknown := sorted(set(split.labelled) - set(targets)):
            raise DataError(
                f"data.sources.{source}", f"labels of split {name!r} must be of the tasks {list(targets)}", unknown
            )
        try:
            split.check({task: targets[task] for task in split.labelled})
        except DataError as error:
            raise DataError(f"data.sources.{source}", f"split {name!r}, {error}") from error
    for task in targets if name == "train" else ():
        if not any(task in split.labelled and split.labelled[task].any() for split in splits.values()):
            raise DataError("data.sources", f"target {task!r} must have a label on a row of split 'train'", "none")


def fitted_target(task: str, target: Target, splits: Sequence[Split]) -> Target:
    """`target` with the statistics of the training `splits` of all sources that carry it, if it has any."""
    if target.dense:  # whose labels need not be in memory
        return target
    return target.fitted(torch.cat([split.labels(task) for split in splits if task in split.labelled]))


def check_classes(splits: Mapping[SplitName, Mapping[str, Split]], targets: Mapping[str, Target]) -> None:
    """Check that every class of the rows for validation and test occurs in training, over all sources.

    Raises:
        ValueError: One does not.
    """
    for task, target in targets.items():
        if target.class_names is None or target.dense:
            continue
        trained = torch.zeros(len(target.class_names), dtype=torch.bool)
        for split in splits["train"].values():
            if task in split.labelled:
                trained[target.members(split.labels(task))[1]] = True
        for name in ("val", "test"):
            for source, split in splits[name].items():
                if task in split.labelled:
                    _check_members(f"data.sources.{source}: split {name!r}", split, task, target, trained)


def check_files(name: SplitName, splits: Mapping[str, Split]) -> None:
    """Check that the files of the split `name` of every source are there, without opening them.

    Raises:
        ValueError: One is not.
    """
    for source, split in splits.items():
        if missing := split.missing():
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(
                f"data.sources.{source}",
                f"split {name!r}, {split.name(missing[0])}: the input must be there",
                f"it missing{more}; `data.on_error: skip` leaves such rows out",
            )


def common_input(
    splits: Mapping[SplitName, Mapping[str, Split]], readers: Mapping[SplitName, Reader], targets: Mapping[str, Target]
) -> Inputs:
    """One row's input [1, ...], found by reading the first row of every split that can be read.

    Raises:
        ValueError: Sources or splits disagree on its shape, no row of a split can be
            read, or a map is not of its image's size.
    """
    inputs = {
        f"{source}, split {name!r}": first_input("data.sources", split, readers[name], targets)
        for name, by_source in splits.items()
        for source, split in by_source.items()
    }
    (first, example), *others = inputs.items()
    expected = shape_of(example)
    for where, other in others:
        if (shape := shape_of(other)) != expected:
            raise DataError(
                "data.sources",
                "all inputs must have one shape",
                f"{expected} ({first}) and {shape} ({where}); a `data.transform` can resize images",
            )
    return example


def shape_of(inputs: Inputs) -> Shape | dict[str, Shape]:
    """Shape of one row of `inputs` [B, ...], or one a modality."""
    if isinstance(inputs, dict):
        return {name: tuple(x.shape[1:]) for name, x in inputs.items()}
    return tuple(inputs.shape[1:])


def _check_members(where: str, split: Split, task: str, target: Target, trained: Tensor) -> None:
    """Refuse the first row of a class that is not among the `trained` ones, bool [C]."""
    rows, classes = target.members(split.labels(task))
    if len(unseen := (~trained[classes]).nonzero()):
        first = int(unseen[0])
        row = split.name(int(split.labelled[task].nonzero()[rows[first]]))
        assert target.class_names is not None
        raise DataError(
            f"{where}, {row}, target {task!r}",
            "a class must occur in split 'train' too",
            f"{target.class_names[int(classes[first])]!r}, which does not; add rows of it to 'train', or leave the "
            "class out",
        )


def first_input(key: str, split: Split, reader: Reader, targets: Mapping[str, Target]) -> Inputs:
    """The input [1, ...] of the first row that can be read; `key` is what a message calls the rows.

    Raises:
        ValueError: None can, or a map is not of its image's size.
    """
    for row in range(len(split)):
        read = reader(split, torch.tensor([row]), torch.tensor([0]))
        if read.inputs is not None:
            break
    else:
        raise DataError(key, f"{split.name(0)} and all rows after it cannot be read")
    if isinstance(read.inputs, dict):
        return read.inputs
    for task, labels in read.labels.items():
        if targets[task].dense and labels.shape[-2:] != read.inputs.shape[-2:]:
            raise DataError(
                key,
                f"{split.name(row)}, target {task!r}: a label must be of its image's height and "
                f"width, {tuple(read.inputs.shape[-2:])}",
                tuple(labels.shape[-2:]),
            )
    return read.inputs
