"""The command line: `train.py fit|validate|test|predict|data|layers|search --config … [--key value …]`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pydoc import locate
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from app.callbacks import (
    BestCheckpoint,
    Charts,
    ConfigEcho,
    CosineMap,
    Interruption,
    LastCheckpoint,
    LayerCurves,
    Patience,
    PredictionWriter,
    Resumption,
    SkippedRows,
    StepCurves,
    TaskProgressBar,
    Thawing,
)
from app.cli.commands import COMMANDS, CommandCLI
from app.cli.errors import REFUSALS, RaisedIn
from app.cli.parsing import MergingConfigFile, OneLineParser
from app.reports.figures import by_task, table
from app.runs import RUNS, check_weights, find_checkpoint, read_checkpoint, run_folder
from app.training.module import BALANCING, MultiTaskModule
from app.training.schedulers import (
    WarmupCosine,  # noqa: F401  # so that a configuration finds it by its name alone
    configured_epochs,
)
from app.transfer import Schedule
from datamodules.errors import UnreadableRowError
from datamodules.multitask import MultiTaskDataModule
from models.backbones import LateFusion, Projected, TimmBackbone
from models.errors import ConfigurationError

MONITOR = "loss/val/total"  # what the best checkpoint is chosen by, unless `monitor` says otherwise


class PolyheadCLI(CommandCLI):
    """Builds data, model and trainer from YAML and the command line, and runs a subcommand."""

    def __init__(self, arguments: list[str] | None = None) -> None:
        self.arguments = sys.argv[1:] if arguments is None else arguments
        super().__init__(
            MultiTaskModule,
            MultiTaskDataModule,
            args=arguments,
            parser_class=OneLineParser,
            save_config_callback=ConfigEcho,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"use_distributed_sampler": False},
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser of a subcommand, several `--config` files merging."""
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action=MergingConfigFile, help="A YAML file; later ones win.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run, and what flows from the data to the model."""
        parser.add_argument("--name", type=str, default="default", help="Runs go to runs/<name>/version_<k>/.")
        parser.add_argument(
            "--monitor",
            type=str,
            default=MONITOR,
            help="The validation curve that the best checkpoint is chosen by; its metric says in which direction.",
        )
        parser.add_argument(
            "--patience",
            type=int | None,
            default=None,
            help="Stop after so many validations in which `monitor` got no better, under a schedule of its last phase; "
            "null trains to the end.",
        )
        parser.add_argument(
            "--save_every_n_steps",
            type=int | None,
            default=None,
            help="Write checkpoints/last.ckpt after every so many optimizer steps too; null writes it at the end of "
            "each epoch alone.",
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="A checkpoint's file, or `best` or `last`: the newest under runs/<name>/. `fit` goes on from it in "
            "its folder; the other subcommands read its weights, `best` if none is named.",
        )
        parser.add_argument(
            "--schedule",
            type=Schedule | None,
            default=None,
            help="Which layers are trained when: phases, or a preset (full, linear_probe, freeze_then_unfreeze, "
            "gradual_unfreeze, lp_ft, surgical), alone or with its options; null for all layers, always.",
        )
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_integer_seed)
        parser.link_arguments("model.backbone", "data.network", compute_fn=_timm_name)
        parser.link_arguments("data.targets", "model.targets", apply_on="instantiate")
        parser.link_arguments("data.input_shape", "model.input_shape", apply_on="instantiate")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Subcommands, and the arguments of the trainer's methods that are not for the user."""
        ours = {"model", "datamodule", "dataloaders", "ckpt_path", "weights_only", "verbose", "return_predictions"}
        return {
            "fit": ours | {"train_dataloaders", "val_dataloaders"},
            "validate": ours,
            "test": ours,
            "predict": ours,
        }

    def _parse_ckpt_path(self) -> None:
        """Do not let a checkpoint's hyper-parameters win over the configuration and the command line."""

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint and the run's folder; evaluation wants a checkpoint, the best if none is named."""
        self.checkpoint = None
        with self._refusing():
            if (name := Path(self._option("name"))).is_absolute() or ".." in name.parts:
                raise ConfigurationError("name", f"must stay within {RUNS}/", repr(str(name)))
            if self.subcommand in COMMANDS:
                return
            which = self._option("ckpt_path") or (None if self.subcommand == "fit" else "best")
            self.checkpoint = find_checkpoint(which, self._option("name")) if which else None
            self.folder = run_folder(self.checkpoint, self._option("name"))

    def instantiate_classes(self) -> None:
        """Build everything; what the user got wrong in the configuration, the data or the checkpoint ends here."""
        with self._refusing():
            checkpoint = read_checkpoint(self.checkpoint) if self.checkpoint else None
            super().instantiate_classes()
            if checkpoint is not None:
                leaving = () if self.subcommand == "fit" else (BALANCING,)
                check_weights(checkpoint["state_dict"], self.model.state_dict(), leaving)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the callbacks and the logger of the subcommand."""
        given = self._get(self.config_init, "trainer")
        callbacks = list(given["callbacks"] or [])
        logger: Any = False
        if self._option("data.on_error") == "skip":
            callbacks.append(SkippedRows())
        if self.subcommand == "fit":
            callbacks += self._run_callbacks(with_checkpoints=given["enable_checkpointing"] is not False)
            logger = self._run_logger() if given["logger"] in (None, True) else given["logger"]
        if self.subcommand == "predict":
            callbacks.append(PredictionWriter(self.folder / "predictions.csv"))
        if given["enable_progress_bar"] is not False and not any(isinstance(each, ProgressBar) for each in callbacks):
            callbacks.append(TaskProgressBar())
        folder = str(self.folder)
        return super().instantiate_trainer(callbacks=callbacks, logger=logger, default_root_dir=folder, **kwargs)

    def run_command(self, name: str) -> None:
        """Run a subcommand that needs no trainer."""
        with self._refusing():
            super().run_command(name)

    def fit(self, **kwargs: Any) -> None:
        """Train; then test the best checkpoint, unless no batch of it is wanted; print and write `results.json`."""
        for logger in self.trainer.loggers:
            logger.log_hyperparams(self._hyper_parameters())
        with self._refusing():
            self.trainer.fit(**kwargs, **self._weights)
        ours = [each for each in self.trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint | LastCheckpoint)]
        saved = [Path(each.best_model_path) for each in ours if each.best_model_path]
        checkpoint = saved[0] if saved else None  # the best, or the last where nothing was validated
        values: Mapping[str, float] = {}
        if self.trainer.limit_test_batches != 0:
            tested = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": checkpoint}
            values = self._report("test", self.trainer.test(**tested, verbose=False, weights_only=True))
        if self.trainer.is_global_zero and not self._option("trainer.fast_dev_run"):
            self._save_results(values, checkpoint)

    def validate(self, **kwargs: Any) -> None:
        """Print the validation split's figures."""
        with self._refusing():
            self._report("val", self.trainer.validate(**kwargs, **self._weights, verbose=False))

    def test(self, **kwargs: Any) -> None:
        """Print the test split's figures."""
        with self._refusing():
            self._report("test", self.trainer.test(**kwargs, **self._weights, verbose=False))

    def predict(self, **kwargs: Any) -> None:
        """Write `predictions.csv` into the run's folder."""
        with self._refusing():
            self.trainer.predict(**kwargs, **self._weights, return_predictions=False)

    def _run_callbacks(self, with_checkpoints: bool) -> list[Callback]:
        """What every run shows and saves."""
        monitor, patience = self._option("monitor"), self._option("patience")
        directions = self.model.stages["val"].higher_is_better()
        self._check_monitor(monitor, list(directions))
        callbacks: list[Callback] = [Resumption()]
        if (schedule := self._get(self.config_init, "schedule")) is not None:
            epochs = configured_epochs(self._option("trainer.max_epochs"), self._option("trainer.max_steps"))
            callbacks += [Thawing(schedule, monitor, directions[monitor], epochs), LayerCurves()]
        callbacks += [Charts(), StepCurves(), CosineMap(), Interruption()]
        if patience is not None:
            if self._option("trainer.limit_val_batches") == 0:
                raise ConfigurationError("patience", "needs validation, but trainer.limit_val_batches is 0", patience)
            callbacks.append(Patience(monitor, mode="max" if directions[monitor] else "min", patience=patience))
        every = self._option("save_every_n_steps")
        if every is not None and every < 1:
            raise ConfigurationError("save_every_n_steps", "must be at least 1", every)
        if with_checkpoints:
            callbacks += [
                BestCheckpoint(self.folder, monitor, directions[monitor]),
                LastCheckpoint(self.folder, every_n_steps=every),
            ]
        return callbacks

    def _check_monitor(self, monitor: str, curves: list[str]) -> None:
        """Refuse a curve that there is not, or that no row of the validation split makes."""
        if monitor not in curves:
            raise ConfigurationError("monitor", f"must be one of {', '.join(curves)}", repr(monitor))
        labelled = dict(zip(self.model.tasks, self.datamodule.datasets["val"].labelled.any(dim=1), strict=True))
        task = monitor.rsplit("/", 1)[1]
        main = [name for name, each in self.model.tasks.items() if not each.config.auxiliary]
        if not any(labelled[name] for name in (main if task in ("total", "mean") else [task])):
            raise ConfigurationError("monitor", "must be of a task with a label in split 'val'", repr(monitor))

    def _run_logger(self) -> TensorBoardLogger:
        """TensorBoard, in the run's folder."""
        runs, name, version = self.folder.parents[1], self.folder.parent.name, self.folder.name
        return TensorBoardLogger(runs, name, version, default_hp_metric=False)

    def _report(self, stage: str, values: list[Mapping[str, float]]) -> Mapping[str, float]:
        """Print a stage's figures, task by task."""
        if self.trainer.is_global_zero:
            Console().print(table(by_task(values[0], stage), title=stage))
        return values[0]

    def _save_results(self, values: Mapping[str, float], checkpoint: Path | None) -> None:
        """Write the test's figures to `results.json`, and beside the hyper-parameters into TensorBoard."""
        best = [each for each in self.trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)]
        tasks = by_task(values, "test")
        mean = {"mean": tasks.pop("mean")} if "mean" in tasks else {}
        results = {
            "tasks": tasks,
            **mean,
            "best": {each.monitor: each.best_model_score.item() for each in best if each.best_model_score is not None},
            "step": read_checkpoint(checkpoint)["global_step"] if checkpoint else self.trainer.global_step,
            "checkpoint": os.path.relpath(checkpoint, self.folder) if checkpoint else None,
            "seed": self._option("seed_everything"),
        }
        (self.folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._hyper_parameters(), dict(values), step=self.trainer.global_step)
                logger.save()

    def _hyper_parameters(self) -> dict[str, Any]:
        """What the user chose of data and model, as nested dicts."""
        chosen = {key: self._option(key) for key in ("seed_everything", "data", "model")}
        return {key: value.as_dict() if isinstance(value, Namespace) else value for key, value in chosen.items()}

    @property
    def _weights(self) -> dict[str, Any]:
        return {"ckpt_path": self.checkpoint, "weights_only": True}

    def _option(self, key: str) -> Any:
        return self._get(self.config, key)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what a user got wrong into one line and exit code 2, unless training is under way."""
        try:
            yield
        except UnreadableRowError as error:  # also under way: it is the user's file, and the run has been saved
            reason = str(error).strip().splitlines()[-1]  # a worker's traceback stands before it
            self._parser(self.subcommand).error(reason.split("UnreadableRowError: ")[-1])
        except RaisedIn as raised:
            if not isinstance(raised.error, REFUSALS):
                raise raised.error from None
            self._parser(self.subcommand).error(str(raised.error))
        except REFUSALS as error:
            trainer = getattr(self, "trainer", None)
            if trainer and any(isinstance(each, Resumption) and each.training for each in trainer.callbacks):
                raise
            self._parser(self.subcommand).error(str(error))


def _integer_seed(seed: bool | int) -> int:
    """The seed, which must be one."""
    if isinstance(seed, bool) or seed < 0:
        raise ConfigurationError("seed_everything", "must be an integer from 0, so that the run can be repeated", seed)
    return seed


def _timm_name(backbone: Any) -> str | None:
    """The name in timm of the network that reads images, if it is one of timm's."""
    kind = locate(backbone.class_path) if isinstance(backbone, Namespace) else None
    if kind is LateFusion:
        return _timm_name(backbone.init_args.get("backbones", {}).get("image"))
    if kind is Projected:
        return _timm_name(backbone.init_args.get("backbone"))
    of_timm = isinstance(kind, type) and issubclass(kind, TimmBackbone)
    name: str | None = backbone.init_args.get("name") if of_timm else None
    return name


def main(arguments: list[str] | None = None) -> PolyheadCLI:
    """Run the command line, or `arguments`. A user's own classes are found from the folder that it is called in."""
    sys.path.append(str(Path.cwd()))
    warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")  # epoch values are synced
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")  # exact
    return PolyheadCLI(arguments)
