"""The command line: `train.py fit|validate|test|predict --config … [--key value …]`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from app.callbacks import (
    BestCheckpoint,
    Charts,
    Interruption,
    LastCheckpoint,
    PredictionWriter,
    Resumption,
    TaskProgressBar,
)
from app.evaluation.report import by_task, table
from app.module import MultiTaskModule
from app.parsing import MergingConfigFile, OneLineParser
from app.runs import RUNS, check_weights, find_checkpoint, read_checkpoint, run_folder
from app.schedulers import WarmupCosine  # noqa: F401  # so that a configuration finds it by its name alone
from datamodules.multitask import MultiTaskDataModule

REPORTED = "loss/val/total"  # what the best checkpoint is chosen by, unless `monitor` says otherwise


class PolyheadCLI(LightningCLI):
    """Builds data, model and trainer from YAML and the command line, and runs a subcommand."""

    def __init__(self, arguments: list[str] | None = None) -> None:
        super().__init__(
            MultiTaskModule,
            MultiTaskDataModule,
            args=arguments,
            parser_class=OneLineParser,
            save_config_kwargs={"overwrite": True},
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
            default=REPORTED,
            help="The validation curve that the best checkpoint is chosen by; its metric says in which direction.",
        )
        parser.add_argument(
            "--patience",
            type=int | None,
            default=None,
            help="Stop after so many validations in which `monitor` got no better; null trains to the end.",
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="A checkpoint's file, or `best` or `last`: the newest under runs/<name>/. `fit` goes on from it in "
            "its folder; the other subcommands read its weights, `best` if none is named.",
        )
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_integer_seed)
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
        """Find the checkpoint; all but `fit` want one, and take the best one if none is named."""
        with self._refusing():
            which = self._option("ckpt_path") or (None if self.subcommand == "fit" else "best")
            self.checkpoint = find_checkpoint(which, self._option("name")) if which else None

    def instantiate_classes(self) -> None:
        """Build everything; what the user got wrong in the configuration, the data or the checkpoint ends here."""
        with self._refusing():
            weights = read_checkpoint(self.checkpoint)["state_dict"] if self.checkpoint else None
            super().instantiate_classes()
            if weights is not None:
                check_weights(weights, self.model.state_dict())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the callbacks and the logger of the subcommand."""
        given = self._get(self.config_init, "trainer")
        callbacks = list(given["callbacks"] or [])
        if self.subcommand == "fit":
            callbacks += self._run_callbacks(with_checkpoints=given["enable_checkpointing"] is not False)
            logger = self._run_logger() if given["logger"] in (None, True) else given["logger"]
        else:
            logger = False
        if self.subcommand == "predict":
            callbacks.append(PredictionWriter((self._folder() or Path()) / "predictions.csv"))
        if given["enable_progress_bar"] is not False and not any(isinstance(each, ProgressBar) for each in callbacks):
            callbacks.append(TaskProgressBar())
        return super().instantiate_trainer(callbacks=callbacks, logger=logger, **kwargs)

    def fit(self, **kwargs: Any) -> None:
        """Train; then test the best checkpoint, print its figures and write them to `results.json`."""
        with self._refusing():
            self.trainer.fit(**kwargs, **self._weights)
        best = [each.best_model_path for each in self.trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)]
        checkpoint = Path(best[0]) if best and best[0] else None
        tested = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": checkpoint}
        values = self._report("test", self.trainer.test(**tested, verbose=False, weights_only=True))
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
        if monitor not in directions:
            raise ValueError(f"monitor: must be one of {', '.join(directions)}, found {monitor!r}")
        callbacks: list[Callback] = [Resumption(), Charts(), Interruption()]
        if patience is not None:
            callbacks.append(EarlyStopping(monitor, mode="max" if directions[monitor] else "min", patience=patience))
        if with_checkpoints:
            callbacks += [BestCheckpoint(monitor, directions[monitor]), LastCheckpoint()]
        return callbacks

    def _run_logger(self) -> TensorBoardLogger:
        """TensorBoard, in a new folder or in that of the run that goes on."""
        folder = self._folder() or RUNS / self._option("name") / "_"
        version = folder.name if self._folder() else None
        return TensorBoardLogger(folder.parent.parent, folder.parent.name, version, default_hp_metric=False)

    def _report(self, stage: str, values: list[Mapping[str, float]]) -> Mapping[str, float]:
        """Print a stage's figures, task by task."""
        if self.trainer.is_global_zero:
            Console().print(table(by_task(values[0], stage), title=stage))
        return values[0]

    def _save_results(self, values: Mapping[str, float], checkpoint: Path | None) -> None:
        """Write the test's figures to `results.json`, and beside the hyper-parameters into TensorBoard."""
        folder = self.trainer.log_dir  # collective
        if not folder or not self.trainer.is_global_zero or self._option("trainer.fast_dev_run"):
            return
        results = {
            "tasks": by_task(values, "test"),
            "step": read_checkpoint(checkpoint)["global_step"] if checkpoint else self.trainer.global_step,
            "checkpoint": os.path.relpath(checkpoint, folder) if checkpoint else None,
            "seed": self._option("seed_everything"),
        }
        (Path(folder) / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        chosen = {key: self._option(key) for key in ("seed_everything", "data", "model")}
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(_plain(chosen), metrics=dict(values))
                logger.save()

    @property
    def _weights(self) -> dict[str, Any]:
        return {"ckpt_path": self.checkpoint, "weights_only": True}

    def _folder(self) -> Path | None:
        return run_folder(self.checkpoint) if self.checkpoint else None

    def _option(self, key: str) -> Any:
        return self._get(self.config, key)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn a ValueError from before the first training step into one line and exit code 2."""
        try:
            yield
        except ValueError as error:
            trainer: Any = getattr(self, "trainer", None)
            if trainer and trainer.fit_loop.epoch_loop.batch_progress.total.started:
                raise
            self._parser(self.subcommand).error(str(error))


def _integer_seed(seed: bool | int) -> int:
    """The seed, which must be one."""
    if isinstance(seed, bool):
        raise ValueError(f"seed_everything: must be an integer, so that the run can be repeated, found {seed}")
    return seed


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Nested configuration as nested dicts, which the logger flattens."""
    return {key: value.as_dict() if isinstance(value, Namespace) else value for key, value in config.items()}


def main(arguments: list[str] | None = None) -> PolyheadCLI:
    """Run the command line, or `arguments`. A user's own classes are found from the folder that it is called in."""
    sys.path.append(str(Path.cwd()))
    warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")  # epoch values are synced
    return PolyheadCLI(arguments)
