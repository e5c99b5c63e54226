"""What of an experiment must not change when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from jsonargparse import Namespace

from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Sampling
from models.errors import ConfigurationError

NAME = "identity"  # in a checkpoint
START = "model.init_from"
KEYS = ("seed_everything", "monitor", "monitor_mode", "schedule", "data.folds", START)
ROWS = ("batch_size", "global_batch_size")  # of a sampling: rows a process and micro-batch, or a step
NOTHING = "None"
POSITION = "trainer.accumulate_grad_batches"  # in the middle of an epoch, where a run stands is a number of them
OPTIMIZER, SCHEDULER, BALANCER = "model.optimizer", "model.lr_scheduler", "model.balancer"
REGULARIZERS = "model.regularizers"
KINDS = (OPTIMIZER, SCHEDULER, BALANCER, "model.sharing")  # whose options may change
LOST = {  # key → what `resume_anyway` gives up
    "seed_everything": "rows are drawn in another order from here on",
    "monitor": "the best score so far is forgotten, and its file written over",
    "monitor_mode": "the best score so far is forgotten, and its file written over",
    "schedule": "its phases are those of before as far as their number goes",
    "data.folds": "rows that were trained on may be validated on",
    "data.sources": "figures of before are of other rows, and rows that were trained on may be validated on",
    "data.sampling": "rows of the epoch under way may come twice or not at all",
    "trainer.limit_train_batches": "rows of the epoch under way may come twice or not at all",
    POSITION: "rows of the epoch under way may come twice or not at all",
    START: "it is not read: the weights are the checkpoint's",
    OPTIMIZER: "its state is begun anew",
    SCHEDULER: "its state is begun anew",
    BALANCER: "its state, the optimizer's and the scheduler's are begun anew",
    REGULARIZERS: "what they have learned is begun anew",
}
Identity = dict[str, str]
Differences = dict[str, tuple[str, str]]


def identity_of_options(options: Namespace) -> Identity:
    """Key → what the configuration says there, of the keys that a run that goes on must have as they were."""
    losses = [(task, _kind(each.get("loss"))) for task, each in (options.get("model.tasks") or {}).items()]
    regularizers = [(name, _kind(each)) for name, each in (options.get(REGULARIZERS) or {}).items()]
    return (
        {key: _text(options.get(key)) for key in KEYS}
        | {key: _kind(options.get(key)) for key in KINDS}
        | {"model.tasks": ", ".join(f"{task} {kind}" for task, kind in losses if kind != NOTHING) or NOTHING}
        | {REGULARIZERS: ", ".join(f"{name} {kind}" for name, kind in sorted(regularizers)) or NOTHING}
    )


def identity(options: Namespace, data: MultiTaskDataModule) -> Identity:
    """The same, and what is known once the data is there and has a trainer.

    Rows and labels are told by a hash of them, wherever their files are; the rows of a step by their number over all
    processes and micro-batches.
    """
    hashes = {name: dataset.fingerprint()[:16] for name, dataset in data.datasets.items()}
    world = data.world
    return identity_of_options(options) | {
        "data.sources": ", ".join(f"{name} {each}" for name, each in hashes.items()),
        "data.targets": ", ".join(f"{task} {type(x).__name__} of {x.outputs}" for task, x in data.targets.items()),
        "data.sampling": _sampling(data.sampling, options.data.sampling, world.ranks * world.accumulate),
        "trainer.limit_train_batches": f"{ceil(data.train_batches() / world.accumulate)} steps an epoch",
        POSITION: str(world.accumulate),
    }


def differences(checkpoint: Mapping[str, Any], configured: Identity) -> Differences:
    """Key → what the checkpoint's run had and what is configured, where they differ.

    A starting point that is not given is no difference: a run that goes on does not read it.
    """
    was: Identity = checkpoint.get(NAME, {})
    both = {key: (was[key], configured[key]) for key in configured.keys() & was.keys()}
    differ = {key: each for key, each in both.items() if each[0] != each[1]}
    return {key: each for key, each in differ.items() if (key, each[1]) != (START, NOTHING)}


def check_same(differ: Differences) -> None:
    """Refuse to go on with another experiment.

    Raises:
        ValueError: There is a difference.
    """
    if not differ:
        return
    (key, (was, configured)), *others = sorted(differ.items())
    more = "".join(f"; and {other} {now}, not {before}" for other, (before, now) in others)
    rule = (
        f"must be {was}, as in the checkpoint's run; `--resume_anyway true` goes on, and the run is then none that a "
        "single configuration gives"
    )
    raise ConfigurationError(key, rule, f"{configured}{more}")


def lost(differ: Differences) -> list[str]:
    """What `resume_anyway` gives up, a line a difference."""
    return [
        f"{key}: {now} in place of {was}" + (f"; {LOST[key]}" if key in LOST else "")
        for key, (was, now) in sorted(differ.items())
    ]


def _sampling(sampling: Sampling, chosen: Namespace | None, parts: int) -> str:
    """Its kind and settings, the number of rows being that of an optimizer step, which has so many `parts`."""
    settings = chosen.init_args.as_dict() if chosen and "init_args" in chosen else {}
    others = "".join(f", {key} {value}" for key, value in settings.items() if key not in ROWS and value is not None)
    own, whole = (getattr(sampling, key, None) for key in ROWS)
    if whole is None and own is not None:
        whole = {task: n * parts for task, n in own.items()} if isinstance(own, dict) else own * parts
    return f"{type(sampling).__name__}{others}" + (f", {whole} rows a step" if whole is not None else "")


def _text(value: Any) -> str:
    return str(value.as_dict() if isinstance(value, Namespace) else value)


def _kind(value: Any) -> str:
    return str(value.get("class_path", value) if isinstance(value, Namespace) else value)
