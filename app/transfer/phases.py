"""What is trained when, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import inf
from typing import Literal

from models.errors import ConfigurationError

BatchNormMode = Literal["train", "eval", "stats"]


@dataclass
class Phase:
    """A part of a run in which the same layers are trained, and all others are frozen.

    What is frozen has no gradient, no weight decay, no dropout and fixed running statistics. A phase ends with the
    first of its ends that comes; the last phase has none, and lasts to the end of the run.

    Args:
        train: Layers by name or pattern (`*`, `?`): `backbone.<layer group>` and `heads.<task>`.
        name: What it is called in messages.
        rates: Layer, by name or pattern → factor of its learning rate in this phase; of several that match, the last.
        batch_norm: `train`: batch normalisation in trained layers normalises by the batch and follows it, in frozen
            layers it is fixed; `eval`: it is fixed in all layers, its weights in trained layers apart; `stats`: it
            follows the batch in all layers, so that also a frozen network takes on the statistics of new data.
        until_epoch: The phase ends before this epoch, counted from 0.
        until_step: The phase ends before this optimizer step, counted from 0.
        patience: The phase ends after so many validations in a row in which `monitor` was no better than before in
            this phase.
        restore_best: Start the next phase from where `monitor` was best in this one, the state of the optimizer
            included. A copy of both is kept, in checkpoints too.
    """

    train: list[str]
    name: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    batch_norm: BatchNormMode = "train"
    until_epoch: int | None = None
    until_step: int | None = None
    patience: int | None = None
    restore_best: bool = False

    def trained(self, layers: Sequence[str]) -> list[str]:
        """Those of the layers that are trained."""
        return [layer for layer in layers if any(_matches(layer, pattern) for pattern in self.train)]

    def rate(self, layer: str) -> float:
        """Factor of a layer's learning rate."""
        return next((factor for pattern, factor in reversed(self.rates.items()) if _matches(layer, pattern)), 1.0)


def check_phases(
    phases: Sequence[Phase],
    layers: Sequence[str],
    epochs: int | None,
    steps: int | None,
    epoch_steps: int | None = None,
) -> None:
    """Refuse what cannot be run.

    Args:
        phases: In their order.
        layers: The network's.
        epochs: Of the run, or None if it has no end.
        steps: Optimizer steps of the run, or None.
        epoch_steps: Those of an epoch, if they are known.

    Raises:
        ValueError: There is no phase; one trains nothing, never begins or never ends; a pattern matches no layer; or a
            factor is not positive.
    """
    if not phases:
        raise ConfigurationError("schedule", "must have a phase", "[]")
    for i, phase in enumerate(phases):
        where = f"schedule[{i}]"
        if not phase.train:
            raise ConfigurationError(f"{where}.train", "must name a layer", "[]")
        for key, patterns in (("train", phase.train), ("rates", phase.rates)):
            for pattern in patterns:
                _check_pattern(f"{where}.{key}", pattern, layers)
        for pattern, factor in phase.rates.items():
            if not 0 < factor < inf:
                raise ConfigurationError(
                    f"{where}.rates", "a factor must be greater than 0", f"{factor} of {pattern!r}"
                )
        _check_end(where, phase, last=i == len(phases) - 1)
    for key, length, run in (("until_epoch", epochs, "epochs"), ("until_step", steps, "optimizer steps")):
        _check_order(phases, key, inf if length is None else length, run)
    if epoch_steps is not None:
        _check_mixed_order(phases, epoch_steps)


def _check_pattern(where: str, pattern: str, layers: Sequence[str]) -> None:
    if not any(_matches(layer, pattern) for layer in layers):
        near = get_close_matches(pattern, layers, n=3, cutoff=0.4) or layers[:1]
        raise ConfigurationError(
            where, "must match a layer (`train.py layers` lists them)", f"{pattern!r}; near it: {', '.join(near)}"
        )


def _check_end(where: str, phase: Phase, last: bool) -> None:
    ends = {key: getattr(phase, key) for key in ("until_epoch", "until_step", "patience")}
    given = {key: value for key, value in ends.items() if value is not None}
    if last and given:
        key, value = next(iter(given.items()))
        raise ConfigurationError(f"{where}.{key}", "the last phase lasts to the end of the run", value)
    if not last and not given:
        raise ConfigurationError(where, f"a phase before the last must have one of {', '.join(ends)}", "none")
    if phase.patience is not None and phase.patience < 1:
        raise ConfigurationError(f"{where}.patience", "must be at least 1", phase.patience)
    if last and phase.restore_best:
        raise ConfigurationError(
            f"{where}.restore_best", "the last phase has none after it; its best is checkpoints/best.ckpt"
        )


def _check_order(phases: Sequence[Phase], key: str, length: float, run: str) -> None:
    """Refuse ends that are not one after the other within the run."""
    before = 0
    for i, phase in enumerate(phases):
        end = getattr(phase, key)
        if end is None:
            continue
        if end <= before:
            raise ConfigurationError(
                f"schedule[{i}].{key}", f"must be greater than {before}, where the phase begins", end
            )
        if end >= length:
            raise ConfigurationError(f"schedule[{i}].{key}", f"must be less than the run's {length} {run}", end)
        before = end


def _check_mixed_order(phases: Sequence[Phase], epoch_steps: int) -> None:
    """Refuse ends of which one counts epochs and the other steps, and which are not one after the other."""
    before = 0
    for i, phase in enumerate(phases):
        by_epoch = [phase.until_epoch * epoch_steps] if phase.until_epoch is not None else []
        by_step = [phase.until_step] if phase.until_step is not None else []
        end = min([*by_epoch, *by_step], default=inf)
        if end <= before:
            raise ConfigurationError(
                f"schedule[{i}]", f"must end after step {before}, where the phase before does", f"{end:g}"
            )
        before = int(end) if end < inf else before


def _matches(layer: str, pattern: str) -> bool:
    return layer == pattern or fnmatchcase(layer, pattern)
