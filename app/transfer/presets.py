"""Schedules by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from app.network.layers import HEAD, is_backbone, is_head
from app.transfer.phases import BatchNormMode, Phase
from models.errors import ConfigurationError

PresetName = Literal["full", "linear_probe", "freeze_then_unfreeze", "gradual_unfreeze", "lp_ft", "surgical"]
HEADS, ALL = f"{HEAD}*", "*"


@dataclass
class Preset:
    """A schedule by name; `train.py layers` prints its phases.

    `full` trains everything from the start, and `linear_probe` the heads alone; with the heads goes what else is in no
    backbone, such as gates, which are drawn anew as they are. `freeze_then_unfreeze` has a phase of
    each. `gradual_unfreeze` thaws the backbone from the top group down (Howard & Ruder, "Universal Language Model
    Fine-tuning for Text Classification", 2018). `lp_ft` is a linear probe, then everything at a tenth of the rate
    (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", 2022).
    `surgical` trains a third of the backbone beside the heads (Lee et al., "Surgical Fine-Tuning Improves Adaptation to
    Distribution Shifts", 2022, who leave the head as it was).

    Args:
        preset: Its name.
        epochs: Epochs, counted from 0, in which the second and later phases begin; spread evenly over the run if None.
        phases: Phases of `gradual_unfreeze`, the first of which trains the heads alone; as many as there are layer
            groups, and one more, or epochs if those are fewer, if None.
        block: The third of the layer groups that `surgical` trains.
        batch_norm: Of all phases; see `Phase`.
    """

    preset: PresetName
    epochs: list[int] | None = None
    phases: int | None = None
    block: Literal["first", "middle", "last"] = "first"
    batch_norm: BatchNormMode = "train"


Schedule = PresetName | Preset | list[Phase]


def phases_of(schedule: Schedule | None, layers: Sequence[str], epochs: int | None) -> list[Phase]:
    """The phases of a schedule; without one, everything is trained.

    Args:
        schedule: Phases, or a preset.
        layers: Names of the network's layers, the backbone's from input to output.
        epochs: Of the run, or None if it has no end.

    Raises:
        ValueError: An option is not the preset's, or there are fewer epochs than phases.
    """
    if isinstance(schedule, list):
        return schedule
    chosen = schedule if isinstance(schedule, Preset) else Preset(schedule or "full")
    backbone, others = [layer for layer in layers if is_backbone(layer)], [HEADS]
    others += [layer for layer in layers if not (is_backbone(layer) or is_head(layer))]
    _check_options(chosen, backbone)
    phases = _phases(chosen, backbone, others, epochs)
    for phase in phases:
        phase.batch_norm = chosen.batch_norm
    for phase, end in zip(phases, _ends(chosen, len(phases), epochs), strict=False):
        phase.until_epoch = end
    return phases


def _phases(chosen: Preset, backbone: list[str], others: list[str], epochs: int | None) -> list[Phase]:
    """The phases without their ends; `others` are trained in all of them."""
    heads, everything = Phase(others, "heads"), Phase([ALL], "all")
    match chosen.preset:
        case "full":
            return [everything]
        case "linear_probe":
            return [heads]
        case "freeze_then_unfreeze":
            return [heads, everything]
        case "lp_ft":
            return [heads, Phase([ALL], "all", rates={ALL: 0.1})]
        case "surgical":
            return [Phase([*_third(backbone, chosen.block), *others], chosen.block)]
        case "gradual_unfreeze":
            return _gradual(backbone, others, chosen.phases or min(len(backbone) + 1, epochs or len(backbone) + 1))


def _gradual(backbone: list[str], others: list[str], phases: int) -> list[Phase]:
    """From the heads alone to everything."""
    thawed = [ceil(i * len(backbone) / max(1, phases - 1)) for i in range(phases)]
    tops = [backbone[len(backbone) - groups :] for groups in thawed]
    return [Phase([*top, *others], f"from {top[0]}" if top else "heads") for top in tops]


def _third(backbone: list[str], block: str) -> list[str]:
    """The first, middle or last third of the layer groups; there are at least as many of them as of thirds."""
    third = ["first", "middle", "last"].index(block)
    return backbone[len(backbone) * third // 3 : len(backbone) * (third + 1) // 3]


def _ends(chosen: Preset, phases: int, epochs: int | None) -> list[int]:
    """The epochs in which the second and later phases begin."""
    if chosen.epochs is not None:
        if len(chosen.epochs) != phases - 1:
            raise ConfigurationError(
                "schedule.epochs", f"must be {phases - 1} numbers, one for each phase but the first", chosen.epochs
            )
        return chosen.epochs
    if phases == 1:
        return []
    if epochs is None:
        raise ConfigurationError("schedule", f"{chosen.preset} needs trainer.max_epochs, or `epochs`", "neither")
    if epochs < phases:
        raise ConfigurationError("schedule", f"{chosen.preset} has {phases} phases, but the run has {epochs} epochs")
    return [round(i * epochs / phases) for i in range(1, phases)]


def _check_options(chosen: Preset, backbone: list[str]) -> None:
    if chosen.phases is not None and chosen.preset != "gradual_unfreeze":
        raise ConfigurationError("schedule.phases", "is for gradual_unfreeze alone", chosen.phases)
    if chosen.phases is not None and not 2 <= chosen.phases <= len(backbone) + 1:
        raise ConfigurationError(
            "schedule.phases",
            f"must be from 2 to {len(backbone) + 1}, one more than there are layer groups",
            chosen.phases,
        )
    if chosen.preset == "surgical" and len(backbone) < 3:
        raise ConfigurationError("schedule", "surgical needs three layer groups", len(backbone))
    if chosen.block != Preset.block and chosen.preset != "surgical":
        raise ConfigurationError("schedule.block", "is for surgical alone", repr(chosen.block))
