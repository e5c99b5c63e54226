"""The subcommand `data`."""

from app.cli.command import DATA, Command, Session
from app.reports.data import report_data


def run(session: Session) -> None:
    """Report on the data."""
    report_data(session.options, session.data)


COMMAND = Command(
    "Report on the data: labels, shares of a step, a contact sheet.",
    run,
    parts=("data",),
    examples=("data --config configs/quickstart.yaml", "data --config configs/quickstart.yaml --name looked_at"),
    shows=("config", "name", "seed_everything", *DATA),
)
