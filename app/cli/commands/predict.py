"""The subcommand `predict`."""

from lightning.pytorch import Callback

from app.callbacks import PredictionWriter
from app.cli.command import Command, Session


def run(session: Session) -> None:
    """Write `predictions.csv` into the run's folder."""
    session.trainer.predict(**session.weights(), return_predictions=False)


def callbacks(session: Session) -> list[Callback]:
    """What writes it."""
    return [PredictionWriter(session.run_folder / "predictions.csv")]


COMMAND = Command("Write a checkpoint's predictions of the test split.", run, reads="best", callbacks=callbacks)
