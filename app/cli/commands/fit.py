"""The subcommand `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import relpath
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from app.callbacks import BestCheckpoint, LastCheckpoint, callbacks_of_a_run
from app.cli.command import COMPUTING, DATA, MODEL, Command, Session
from app.reports.classes import by_class
from app.reports.figures import by_task, print_figures
from app.reports.imbalance import warn_of_imbalance
from app.runs import read_checkpoint, write_results

RUN = ("config", "name", "seed_everything", "monitor", "patience", "ckpt_path", "schedule")
TRAINER = (
    "trainer.max_epochs", *COMPUTING, "trainer.callbacks", "trainer.fast_dev_run"
)  # fmt: skip


def run(session: Session) -> None:
    """Train; then test the best checkpoint, unless no batch of it is wanted; print and write `results.json`."""
    trainer, chosen = session.trainer, hyper_parameters(session.options)
    for logger in trainer.loggers:
        logger.log_hyperparams(chosen)
    trainer.fit(**session.weights())
    ours = [each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint | LastCheckpoint)]
    saved = [Path(each.best_model_path) for each in ours if each.best_model_path]
    checkpoint = saved[0] if saved else None  # the best, or the last where nothing was validated
    values: Mapping[str, float] = {}
    try:
        if trainer.limit_test_batches != 0:
            values = test(session, checkpoint)
    finally:
        if trainer.is_global_zero and not session.options.trainer.fast_dev_run:
            save(session, values, checkpoint, chosen)
    stages, last = session.model.stages, "test" if values else "val"
    warn_of_imbalance(session.data.targets, last, stages[last].counts, trainer)


def test(session: Session, checkpoint: Path | None) -> Mapping[str, float]:
    """The checkpoint's figures of the test split, which are printed too; where they cannot be had, how to have them."""
    tested = {**session.weights(), "ckpt_path": checkpoint}
    try:
        values: Mapping[str, float] = session.trainer.test(**tested, verbose=False)[0]
    except BaseException:
        if checkpoint:
            again = f"train.py test --config {session.run_folder / 'config.yaml'} --ckpt_path {relpath(checkpoint)}"
            rank_zero_info(f"The run is trained and saved; `{again}` tests it")
        raise
    print_figures("test", values, session.trainer)
    return values


def save(session: Session, values: Mapping[str, float], checkpoint: Path | None, chosen: dict[str, Any]) -> None:
    """Write the test's figures to `results.json`, and beside the hyper-parameters into TensorBoard."""
    trainer = session.trainer
    best = [each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)]
    tasks = by_task(values, "test")
    mean = {"mean": tasks.pop("mean")} if "mean" in tasks else {}
    results = {
        "tasks": tasks,
        **mean,
        "classes": by_class(
            session.model.stages["test"].counts if values else {}, dict(session.model.network.tasks.items())
        ),
        "best": {each.monitor: each.best_model_score.item() for each in best if each.best_model_score is not None},
        "step": read_checkpoint(checkpoint)["global_step"] if checkpoint else trainer.global_step,
        "checkpoint": relpath(checkpoint, session.folder) if checkpoint else None,
        "seed": session.options.seed_everything,
    }
    write_results(session.run_folder, results)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(chosen, dict(values), step=trainer.global_step)
            logger.save()


def hyper_parameters(options: Namespace) -> dict[str, Any]:
    """What the user chose of data and model, as nested dicts."""
    chosen = {key: options[key] for key in ("seed_everything", "data", "model")}
    return {key: value.as_dict() if isinstance(value, Namespace) else value for key, value in chosen.items()}


def callbacks(session: Session) -> list[Callback]:
    """What every training shows and saves."""
    schedule = session.built["schedule"]
    return callbacks_of_a_run(session.options, session.model, session.data, schedule, session.run_folder)


COMMAND = Command(
    "Train, and test the best checkpoint.",
    run,
    trains=True,
    callbacks=callbacks,
    examples=(
        "fit --config configs/quickstart.yaml",
        "fit --config configs/quickstart.yaml --model.balancer PCGrad --name pcgrad",
        "fit --config configs/quickstart.yaml --ckpt_path last --trainer.max_epochs 12",
    ),
    shows=(*RUN, *DATA, *MODEL, *TRAINER),
)
