"""The subcommand `test`."""

from app.cli.command import Command, Session
from app.reports.figures import print_figures


def run(session: Session) -> None:
    """Print the test split's figures."""
    print_figures("test", session.trainer.test(**session.weights(), verbose=False)[0], session.trainer)


COMMAND = Command("Print a checkpoint's figures of the test split.", run, reads="best")
