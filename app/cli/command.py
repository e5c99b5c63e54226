"""What a subcommand is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from app.training.module import MultiTaskModule
from datamodules.multitask import MultiTaskDataModule

# Keys that pages of help show.
DATA = ("data.sources", "data.sampling", "data.transform", "data.eval_batch_size", "data.num_workers")
MODEL = (
    "model.backbone", "model.sharing", "model.head", "model.tasks", "model.balancer", "model.optimizer",
    "model.lr_scheduler", "model.init_from"
)  # fmt: skip
COMPUTING = ("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision")
READING = ("config", "ckpt_path", "name", "data.eval_batch_size", "data.num_workers", "data.on_error", *COMPUTING)


@dataclass
class Session:
    """A subcommand under way.

    Attributes:
        options: Of the command line and the configuration, by their keys.
        parser: A subcommand's name → its parser.
        folder: Of the run that the subcommand trains, or whose checkpoint it reads.
        checkpoint: The file to read, if there is one.
        built: Key → what was built of an option, such as `data`, `model` or `schedule`.
        trainer: A Lightning trainer, if the subcommand wants one.
    """

    options: Namespace
    parser: Callable[[str], Any]
    folder: Path | None = None
    checkpoint: Path | None = None
    built: dict[str, Any] = field(default_factory=dict)
    trainer: Any = None

    @property
    def data(self) -> MultiTaskDataModule:
        """The data."""
        data: MultiTaskDataModule = self.built["data"]
        return data

    @property
    def model(self) -> MultiTaskModule:
        """The model."""
        model: MultiTaskModule = self.built["model"]
        return model

    @property
    def run_folder(self) -> Path:
        """The folder, of a subcommand that has one."""
        assert self.folder is not None
        return self.folder

    def weights(self) -> dict[str, Any]:
        """How the trainer is told of the checkpoint."""
        return {"model": self.model, "datamodule": self.data, "ckpt_path": self.checkpoint, "weights_only": True}


@dataclass(frozen=True)
class Command:
    """A subcommand: a module of `app.cli.commands` has it as `COMMAND`, and its name is the module's.

    Attributes:
        help: One line.
        run: Does it.
        parts: What is built for it: "data", "model" (which needs the data), "trainer"; it has the options of all of
            them, or, where it wants nothing, its own alone.
        reads: The checkpoint that it reads if none is named, if it reads one.
        trains: Whether it makes a new run, unless it goes on with one.
        options: Adds options of its own to the parser.
        parses: Other subcommands whose configuration it reads.
        callbacks: Those that it needs beside the user's.
        wants_labels: Whether new rows that it is given must have labels.
        examples: Command lines after `train.py`, which its page of help shows.
        shows: Keys of those that it shares with others, which its page shows too.
    """

    help: str
    run: Callable[[Session], None]
    parts: tuple[str, ...] = ("data", "model", "trainer")
    reads: Literal["best"] | None = None
    trains: bool = False
    options: Callable[[LightningArgumentParser], None] | None = None
    parses: tuple[str, ...] = ()
    callbacks: Callable[[Session], list[Callback]] = lambda session: []
    wants_labels: bool = False
    examples: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
