"""The first line of a run, and the last ones: where everything is, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from app.network.network import Network
from app.runs import LOG, RUNS


def beginning(folder: Path, network: Network) -> str:
    """The first line: where the run goes, its tasks, and the size of what it trains."""
    shared = sum(parameter.numel() for parameter in network.sharing.shared_parameters())
    everything = sum(parameter.numel() for parameter in network.parameters())
    return f"{folder}: {', '.join(network.tasks)}; {everything:,} parameters, {shared:,} of them shared"


def ending(folder: Path, checkpoint: Path | None, step: int, trainer: Trainer) -> list[str]:
    """The last lines of a run.

    Args:
        folder: Of the run.
        checkpoint: Which was tested, if there is one.
        step: Whose weights it has.
        trainer: Whose loggers wrote the curves.
    """
    run = shlex.quote(str(folder))
    kept = [f"{relpath(checkpoint, folder)} (step {step})"] if checkpoint else []
    commands = []
    if any(isinstance(each, TensorBoardLogger) for each in trainer.loggers):
        commands.append((f"tensorboard --logdir {RUNS}", "the curves"))
    if checkpoint:
        commands += [
            (f"python train.py predict --run {run} --split test", "its predictions; `--input FILES`: of new rows"),
            (f"python train.py export --run {run}", "a file for other programs"),
        ]
    return [f"{folder}: {', '.join([*kept, 'results.json', 'config.yaml', LOG])}", *_aligned(commands)]


def _aligned(commands: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(command) for command, _ in commands), default=0)
    return [f"  {command:<{width}}  # {what}" for command, what in commands]
