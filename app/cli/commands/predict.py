"""The subcommand `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from app.callbacks import PredictionWriter
from app.cli.command import READING, Command, Session
from app.cli.of_a_run import add_input, add_output, add_run
from app.runs import check_table_file
from datamodules.multitask import MultiTaskDataModule
from models.errors import ConfigurationError


def run(session: Session) -> None:
    """Write the table."""
    options = session.options
    session.model.probabilities = options.probabilities
    if isinstance(session.data, MultiTaskDataModule):
        session.data.predict_from(options.split or "test")
    elif options.split is not None:
        raise ConfigurationError(
            "split", "is of the run's own data, and must not be given beside `input`", options.split
        )
    session.trainer.predict(**session.weights(), return_predictions=False)


def callbacks(session: Session) -> list[Callback]:
    """What writes it."""
    path = output(session)
    check_table_file("output", path, session.options.overwrite)
    return [PredictionWriter(path)]


def output(session: Session) -> Path:
    """Where the table goes: `predictions.csv` in the run's folder, unless another file is named."""
    named = session.options.output
    return session.run_folder / "predictions.csv" if named is None else Path(named).expanduser()


def options(parser: LightningArgumentParser) -> None:
    """What is predicted, and where it goes."""
    add_run(parser)
    add_input(parser, "New rows, without labels")
    parser.add_argument(
        "--split",
        type=Literal["train", "val", "test", "all"] | None,
        default=None,
        help="Without `input`, which rows of the run's own data; null for those of the test split.",
    )
    add_output(parser, "The table, .csv or .parquet; null for predictions.csv in the run's folder.")
    parser.add_argument(
        "--probabilities", type=bool, default=False, help="Write the probability of every class, not of one alone."
    )


COMMAND = Command(
    "Write a checkpoint's predictions as a table.",
    run,
    reads="best",
    callbacks=callbacks,
    options=options,
    examples=(
        "predict --run runs/quickstart",
        "predict --run runs/quickstart --split val --output val.csv --probabilities true",
        "predict --config configs/quickstart.yaml --ckpt_path last --output last.parquet",
    ),
    shows=READING,
)
