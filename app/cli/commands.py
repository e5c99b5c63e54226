"""Subcommands that are not methods of the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from app.cli.errors import construct
from app.reports.data import report_data
from app.reports.layers import report_layers
from app.search import add_search_options, run_search


@dataclass(frozen=True)
class Command:
    """A subcommand that takes the configuration of a training, but needs no trainer.

    Attributes:
        help: One line.
        parts: What is built for it: "data", "model" (which needs the data), or an option of the command line.
        run: Called with the options of the command line, and these parts by their names.
        options: Adds options of its own to the parser.
        refits: Whether `run` is also called with `fit`, the parser of that subcommand.
    """

    help: str
    parts: tuple[str, ...]
    run: Callable[..., None]
    options: Callable[[LightningArgumentParser], None] | None = None
    refits: bool = False


COMMANDS = {
    "data": Command("Report on the data: labels, shares of a step, a contact sheet.", ("data",), report_data),
    "layers": Command(
        "List the layers that are frozen and thawed, and the phases of a schedule.",
        ("data", "model", "schedule"),
        report_layers,
    ),
    "search": Command(
        "Choose hyper-parameters by cross-validation, in a study that several processes share.",
        ("data", "model", "search"),
        run_search,
        options=add_search_options,
        refits=True,
    ),
}


class CommandCLI(LightningCLI):
    """A command line with the trainer's methods and `COMMANDS`."""

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        for name, command in COMMANDS.items():
            options = self.init_parser(description=command.help)
            self._add_arguments(options)
            if command.options:
                command.options(options)
            if "model" not in command.parts:
                _leave_out(options, "model")
            self._subcommand_parsers[name] = options
            assert parser._subcommands_action is not None
            parser._subcommands_action.add_subcommand(name, options, help=command.help)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, or the parts of them that a command asks for, and nothing else."""
        classes = {"trainer": self.trainer_class, "data": self._datamodule_class, "model": self._model_class}
        wanted = COMMANDS[self.subcommand].parts if self.subcommand in COMMANDS else ("data", "model", "trainer")
        unneeded = classes.keys() - {*wanted}
        config = self.config.clone()
        for part in unneeded:
            del config[self.subcommand][part]
        nothing = [(lambda kind, **arguments: None, classes[part], False) for part in unneeded]
        self.config_init = self.parser.instantiate(config, instantiators=[*nothing, (construct, object, True)])
        if self.subcommand not in COMMANDS:
            self.datamodule, self.model = self._get(self.config_init, "data"), self._get(self.config_init, "model")
            self.trainer = self.instantiate_trainer()

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand in COMMANDS:
            self.run_command(subcommand)
        else:
            super()._run_subcommand(subcommand)

    def run_command(self, name: str) -> None:
        """Run one of `COMMANDS`."""
        command = COMMANDS[name]
        given = {part: self._get(self.config_init, part) for part in command.parts}
        if command.refits:
            given["fit"] = self._parser("fit")
        command.run(self.config[name], **given)


def _leave_out(parser: LightningArgumentParser, part: str) -> None:
    """Let what a part of the configuration requires be missing: it is then None."""
    action: Any
    for action in parser._actions:
        if action.required and action.dest.startswith(f"{part}."):
            action.required, action._typehint = False, action._typehint | None
