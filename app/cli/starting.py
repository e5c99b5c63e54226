"""What the checkpoints that a training starts from say of its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from app.runs import contract_of, read_checkpoint
from app.transfer.sources import EVERYONE, InitFrom, key_of, paths_of
from datamodules.contract import Contract


def starting_contract(init_from: InitFrom, reset_head: bool) -> Contract | None:
    """What the networks that a new one starts from take and give; None where it starts from none.

    A task's labels are those of its own checkpoint. What a row is, such as the statistics of a table's columns, is told
    by that of all tasks, or by the first.

    Raises:
        ValueError: A checkpoint cannot be read.
    """
    paths = {file: Path(path) for file, path in paths_of(init_from).items()}
    contracts = {
        file: contract_of(read_checkpoint(path, key_of(file)), path, key_of(file)) for file, path in paths.items()
    }
    if not contracts:
        return None
    everyone = contracts.get(EVERYONE)
    targets: dict[str, Any] = {**everyone.targets} if everyone else {}
    targets |= {task: each.targets[task] for task, each in contracts.items() if task in each.targets}
    first = everyone or next(iter(contracts.values()))
    return replace(first, targets=targets).starting(reset_head)
