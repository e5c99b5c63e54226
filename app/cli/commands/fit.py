"""The subcommand `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import relpath
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info

from app.callbacks import BestCheckpoint, HyperParameters, LastCheckpoint, LearnedCurves, callbacks_of_a_run
from app.cli.command import COMPUTING, DATA, MODEL, Command, Session
from app.configuration import chosen
from app.reports.classes import by_class
from app.reports.figures import by_task, tell_figures
from app.reports.imbalance import imbalance
from app.reports.learned import learned_by, learned_lines
from app.reports.of_a_run import beginning, ending
from app.runs import read_checkpoint, tell, write_results
from models.learned import Learned

RUN = ("config", "name", "seed_everything", "monitor", "patience", "ckpt_path", "schedule")
TRAINER = (
    "trainer.max_epochs", *COMPUTING, "trainer.callbacks", "trainer.fast_dev_run"
)  # fmt: skip


def run(session: Session) -> None:
    """Train; then test the best checkpoint, unless no batch of it is wanted; print and write `results.json`."""
    trainer = session.trainer
    tell(beginning(session.run_folder, session.model.network))
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
            save(session, values, checkpoint)
    stages, last = session.model.stages, "test" if values else "val"
    for line in imbalance(session.data.targets, last, stages[last].counts):
        tell(line)
    for line in learned_lines(shown(session)):
        tell(line)
    if not session.options.trainer.fast_dev_run:
        tell("\n".join(ending(session.run_folder, checkpoint, trained_steps(session, checkpoint), trainer)))


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
    tell_figures("test", values)
    return values


def save(session: Session, values: Mapping[str, float], checkpoint: Path | None) -> None:
    """Write the test's figures to `results.json`."""
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
        "step": trained_steps(session, checkpoint),
        "checkpoint": relpath(checkpoint, session.folder) if checkpoint else None,
        "seed": session.options.seed_everything,
    }
    write_results(session.run_folder, results)


def shown(session: Session) -> dict[str, Learned]:
    """What the tested network has learned, with the mean weights of its gates in the last stage that used them."""
    (curves,) = (each for each in session.trainer.callbacks if isinstance(each, LearnedCurves))
    return {**curves.latest(), **learned_by(session.model)}


def trained_steps(session: Session, checkpoint: Path | None) -> int:
    """The steps after which a checkpoint was written; all, where there is none."""
    steps: int = read_checkpoint(checkpoint)["global_step"] if checkpoint else session.trainer.global_step
    return steps


def callbacks(session: Session) -> list[Callback]:
    """What every training shows and saves."""
    schedule = session.built["schedule"]
    set_by_user = chosen(session.parser("fit"), session.options)
    shown: list[Callback] = [HyperParameters(set_by_user, session.options.monitor)]
    return shown + callbacks_of_a_run(session.options, session.model, session.data, schedule, session.run_folder)


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
