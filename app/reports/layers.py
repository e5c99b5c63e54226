"""Prints the layers of a network and the phases of a schedule, as YAML to edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import yaml
from jsonargparse import Namespace
from torch import Tensor
from torch.nn import Parameter

from app.network.cost import and_of_hard_sharing
from app.training.module import MultiTaskModule
from app.training.schedulers import configured_epochs
from app.transfer import Phase, Schedule, check_phases, phases_of


def report_layers(options: Namespace, model: MultiTaskModule, feeds: Tensor, schedule: Schedule | None) -> None:
    """Print layers and cost as comments and the schedule as YAML: together a fragment of a configuration.

    Args:
        options: Of the command line; the trainer's say how long the run is.
        model: The network.
        feeds: [T, B] bool: which rows of a batch feed which task.
        schedule: Phases or a preset, if there is one.

    Raises:
        ValueError: The schedule cannot be run.
    """
    layers = list(model.network.layers)
    steps = options.trainer.max_steps
    epochs = configured_epochs(options.trainer.max_epochs, steps)
    phases = phases_of(schedule, layers, epochs) if schedule is not None else []
    if schedule is not None:
        check_phases(phases, layers, epochs, None if steps == -1 else steps)
    print("\n".join([*layer_lines(model), cost_line(model, feeds), *schedule_lines(phases)]))


def layer_lines(model: MultiTaskModule) -> list[str]:
    """A comment a layer: its parameters, which share of them several tasks' losses reach, and its rate's factor."""
    layers, shared = model.network.layers, {id(p) for p in model.network.shared_parameters()}
    rows = [("layer", "parameters", "shared", "rate")]
    rows += [(layer, *_sizes(own, shared), f"{model.layer_factors[layer]:.4g}") for layer, own in layers.items()]
    rows.append(("total", *_sizes([p for own in layers.values() for p in own], shared), ""))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"# {name:{first}}  {size:>{second}}  {part:>6}  {rate}".rstrip() for name, size, part, rate in rows]


def _sizes(parameters: Sequence[Parameter], shared: set[int]) -> tuple[str, str]:
    """How many numbers parameters have, and the share of those that are shared."""
    size = sum(parameter.numel() for parameter in parameters)
    return f"{size:,}", f"{sum(p.numel() for p in parameters if id(p) in shared) / size:.0%}"


def cost_line(model: MultiTaskModule, feeds: Tensor) -> str:
    """A comment on the multiply-adds of a forward pass, for a batch whose rows feed tasks so, [T, B]."""
    own, hard = and_of_hard_sharing(model.network, feeds)
    return f"# {own:,.0f} multiply-adds a row, {own / hard:.3g} times those of hard sharing"


def schedule_lines(phases: Sequence[Phase]) -> list[str]:
    """The key `schedule`, each phase with what differs from the defaults."""
    items = []
    for phase in phases:
        default = asdict(Phase(train=[]))
        given = {"name": phase.name, **asdict(phase)}  # the name first
        items.append({key: value for key, value in given.items() if value != default[key]})
    if not items:
        return []
    lines: list[str] = yaml.dump(
        {"schedule": items}, Dumper=_Flow, sort_keys=False, width=110, allow_unicode=True
    ).splitlines()
    return lines


class _Flow(yaml.SafeDumper):
    """Lists of names on a line, and phases one below the other."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=all(isinstance(item, str) for item in sequence))
