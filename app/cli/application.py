"""The command line: `train.py <command> --config … [--key value …]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from app.callbacks import INTERRUPTED, ConfigEcho, Resumption, SkippedRows, TaskProgressBar
from app.cli.adverts import leave_out_adverts
from app.cli.bounds import check_bounds
from app.cli.command import Command, Session
from app.cli.commands import commands
from app.cli.errors import REFUSED, TRACEBACK, Reporter, construct
from app.cli.help_options import add_help
from app.cli.of_the_trainer import handlers_kept, listed, plugins_of
from app.cli.options import add_options
from app.cli.parsing import NO_DATA, MergingConfigFile, OneLineParser, leave_out
from app.cli.starting import starting_contract
from app.configuration import Fitting
from app.help import MAIN
from app.runs import (
    LOCK,
    LOG,
    check_name,
    check_places,
    check_same,
    check_weights,
    checkpoint_of_run,
    claim_folder,
    contract_of,
    differences,
    find_checkpoint,
    forget_claim,
    identity,
    identity_of_options,
    lock_folder,
    lost,
    read_checkpoint,
    release_folder,
    run_log,
    run_of,
)
from app.runs.identity import BALANCER, REGULARIZERS, Differences
from app.training.learned import LEARNED
from app.training.module import MultiTaskModule
from app.training.schedulers import WarmupCosine  # noqa: F401  # so that a configuration finds it by its name alone
from datamodules.contract import Contract, under
from datamodules.multitask import MultiTaskDataModule, NewRows
from datamodules.new_rows import split_of
from models.backbones import without_pretrained_weights


class PolyheadCLI(LightningCLI):
    """Builds data, model and trainer from YAML and the command line, and runs a subcommand."""

    def __init__(self, arguments: list[str] | None = None) -> None:
        self.arguments = sys.argv[1:] if arguments is None else arguments
        self.commands, self.reporter = commands(), Reporter()
        try:
            with run_log() as self.log:
                super().__init__(
                    MultiTaskModule,
                    MultiTaskDataModule,
                    args=arguments,
                    parser_class=OneLineParser,
                    parser_kwargs={"description": "Multi-task learning: one network, several tasks."},
                    save_config_callback=ConfigEcho,
                    seed_everything_default=0,
                    auto_configure_optimizers=False,
                    load_from_checkpoint_support=False,
                    trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False},
                )
        except KeyboardInterrupt:
            if self._begun():
                raise
            sys.stderr.write("error: interrupted before the first step\n")
            raise SystemExit(INTERRUPTED) from None
        finally:
            forget_claim()

    def init_parser(self, page: str = MAIN, **kwargs: Any) -> LightningArgumentParser:
        """The parser of a subcommand, several `--config` files merging; its `--help` prints a page."""
        parser = self.parser_class(**kwargs, add_help=False)
        parser.allow_abbrev = False
        add_help(parser, page)
        parser.add_argument(
            "-c", "--config", action=MergingConfigFile, help="A YAML file, or several: what stands later wins."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run, and what flows from the data to the model."""
        add_options(parser)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        self._subcommand_parsers = {}
        added, wanted = parser.add_subcommands(), self._wanted()
        for name, command in self.commands.items():
            options = self.init_parser(name, description=command.help)
            if name in wanted:
                if command.parts:
                    self._add_arguments(options)
                if command.options:
                    command.options(options)
                if command.parts and "model" not in command.parts:
                    leave_out(options, "model")
            self._subcommand_parsers[name] = options
            added.add_subcommand(name, options, help=command.help)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the configuration, of which there must be some."""
        if len(self.arguments) == 1 and self.arguments[0] in self.commands:
            parser.error(NO_DATA)
        with self.reporter.reporting():  # a module that the configuration names is imported
            super().parse_arguments(parser, args)

    def _wanted(self) -> set[str]:
        """The subcommands whose options are needed: to build those of all takes longer than a short run."""
        asked = self.arguments[0] if self.arguments else ""
        return {asked, *self.commands[asked].parses} if asked in self.commands else {*self.commands}

    def _parse_ckpt_path(self) -> None:
        """Do not let a checkpoint's hyper-parameters win over the configuration and the command line."""

    def _set_seed(self) -> None:
        """Seed what builds something."""
        if self.command.parts:
            super()._set_seed()

    def instantiate_classes(self) -> None:
        """Find the checkpoint and the run's folder, and build what the command wants."""
        self.session = Session(self.config[self.subcommand], self._subcommand_parsers.__getitem__)
        self.claimed: Path | None = None
        if not self.command.parts:
            return
        with self._ending():
            self._check_fitting()
            check_bounds(self.session.options)
            self._find_files()
            checkpoint = read_checkpoint(self.session.checkpoint) if self.session.checkpoint else None
            if checkpoint is not None and self.command.trains:
                self._check_same(differences(checkpoint, identity_of_options(self.session.options)))
            self.contract = self._contract(checkpoint)
            trained = checkpoint is not None and not self.command.trains
            with under(self.contract), without_pretrained_weights() if trained else nullcontext():
                self._build()
            if checkpoint is not None:
                self._check_fits(checkpoint)

    def _contract(self, checkpoint: dict[str, Any] | None) -> Contract | None:
        """What the network that is read takes and gives, or that of which a new one takes its weights."""
        model, path = self.session.options.get("model"), self.session.checkpoint
        if checkpoint is not None:
            assert path is not None
            return contract_of(checkpoint, path)
        starts = model is not None and self.command.trains
        return starting_contract(model.get("init_from"), model.reset_head) if starts else None

    def _check_fits(self, checkpoint: dict[str, Any]) -> None:
        """Compare a checkpoint with what is built."""
        trains = self.command.trains
        differ = differences(checkpoint, identity(self.session.options, self.datamodule)) if trains else {}
        self._check_same(differ)
        for line in lost(differ):
            rank_zero_info(f"resume_anyway: {line}")
        leaving = () if trains and not {BALANCER, REGULARIZERS} & differ.keys() else LEARNED
        assert self.session.checkpoint is not None
        check_weights(checkpoint["state_dict"], self.session.model.state_dict(), leaving, self.session.checkpoint)

    def _check_same(self, differ: Differences) -> None:
        if not self.session.options.resume_anyway:
            check_same(differ)

    def _check_fitting(self) -> None:
        """Refuse what no class is to be built of, and note which key names which."""
        parser: Any = self._subcommand_parsers[str(self.subcommand)]
        fitting = Fitting({action.dest: getattr(action, "_typehint", None) for action in parser._actions})
        fitting.check(self.session.options)
        self.reporter.keys = fitting.keys
        parser.functions = tuple(named for named in fitting.keys if not isinstance(named, type))

    def _find_files(self) -> None:
        session, command = self.session, self.command
        name = session.options.name
        check_name(name)
        if "trainer" not in command.parts:
            return
        session.checkpoint = self._checkpoint()
        self.reporter.checkpoint = session.checkpoint
        session.folder = run_of(session.checkpoint) if session.checkpoint else None
        if session.folder is None:
            session.folder = self.claimed = claim_folder(name)
        self.reporter.folder = session.folder
        check_places(session.folder)
        if command.trains and getattr(rank_zero_only, "rank", 0) == 0:
            self.lock = lock_folder(session.folder)
            self.log.begin(session.folder)

    def _checkpoint(self) -> Path | None:
        """The file that is read."""
        options = self.session.options
        if options.get("run") is not None:
            return checkpoint_of_run(Path(options.run), options.ckpt_path)
        which = self.command.reads if options.ckpt_path is None else options.ckpt_path
        return None if which is None else find_checkpoint(which, options.name)

    def _build(self) -> None:
        """Data, model and trainer, or the parts of them that the command wants, and nothing else."""
        classes = {"trainer": self.trainer_class, "data": self._datamodule_class, "model": self._model_class}
        unwanted = classes.keys() - {*self.command.parts}
        config = self.config.clone()
        for part in unwanted:
            del config[self.subcommand][part]
        others: list[Any] = [(lambda kind, **arguments: None, classes[part], False) for part in unwanted]
        if config[self.subcommand].get("input") is not None:
            config[self.subcommand].data.sources = {}
            others.append((self._new_rows, MultiTaskDataModule, False))
        self.config_init = self.parser.instantiate(config, instantiators=[*others, (construct, object, True)])
        self.session.built = self.config_init[self.subcommand]
        if "trainer" in self.command.parts:
            self.model, self.datamodule = self.session.model, self.session.data
            self.trainer = self.session.trainer = self.instantiate_trainer()
            self.datamodule.trainer = self.trainer  # so that it knows its ranks and micro-batches from here on

    def _new_rows(self, kind: type, **options: Any) -> NewRows:
        """The rows of `input` in place of the run's own data."""
        assert self.contract is not None
        taken = ("transform", "network", "on_error", "eval_batch_size", "num_workers", "seed")
        labels = self.command.wants_labels
        rows = split_of(self.session.options.input, self.contract, "input", labels)
        return NewRows(rows, self.contract, "input", **{name: options[name] for name in taken})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the callbacks and the logger of the subcommand."""
        given, session = self.session.built["trainer"], self.session
        callbacks = listed(given["callbacks"])
        if session.options.data.on_error == "skip":
            callbacks.append(SkippedRows())
        callbacks += self.command.callbacks(session)
        bar = sys.stdout.isatty() if given["enable_progress_bar"] is None else given["enable_progress_bar"]
        if bar and not any(isinstance(each, ProgressBar) for each in callbacks):
            callbacks.append(TaskProgressBar())
        logger = given["logger"] if self.command.trains else False
        folder = session.run_folder
        if self.command.trains and logger in (None, True):
            runs, name, version = folder.parents[1], folder.parent.name, folder.name
            logger = TensorBoardLogger(runs, name, version, default_hp_metric=False)
        own = {"callbacks": callbacks, "plugins": plugins_of(given["plugins"]), "logger": logger}
        own |= {"enable_progress_bar": bar, "default_root_dir": str(folder)}
        return super().instantiate_trainer(**own, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        with handlers_kept(), self._ending():
            self.command.run(self.session)
            self._leave_nothing_empty()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Report errors; the folder of a run that was refused before it began is removed."""
        try:
            with self.reporter.reporting():
                yield
        except SystemExit as ending:
            if ending.code == REFUSED and not self._begun():
                self._release()
            raise
        except KeyboardInterrupt:
            self._leave_nothing_empty()
            raise

    def _begun(self) -> bool:
        """Whether a step of training has begun."""
        trainer = getattr(self, "trainer", None)
        callbacks = trainer.callbacks if trainer else []
        return any(isinstance(each, Resumption) and each.begun for each in callbacks)

    def _release(self) -> None:
        """Remove the folder that this run has claimed, unless it has the traceback of an error."""
        if self.claimed and getattr(rank_zero_only, "rank", 0) == 0 and not (self.claimed / TRACEBACK).exists():
            release_folder(self.claimed)

    def _leave_nothing_empty(self) -> None:
        """Remove the folder of a run that wrote nothing, as under `fast_dev_run`."""
        if self.claimed and self.claimed.exists() and {each.name for each in self.claimed.iterdir()} <= {LOCK, LOG}:
            self._release()

    @property
    def command(self) -> Command:
        """The subcommand."""
        return self.commands[str(self.subcommand)]


def main(arguments: list[str] | None = None) -> PolyheadCLI:
    """Run the command line, or `arguments`. A user's own classes are found from the folder that it is called in."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    leave_out_adverts()
    return PolyheadCLI(arguments)
