"""The subcommand `layers`."""

from app.cli.command import Command, Session
from app.reports.layers import report_layers


def run(session: Session) -> None:
    """Print the layers, and the phases of the schedule."""
    report_layers(session.options, session.model, session.built["schedule"])


COMMAND = Command(
    "List the layers that are frozen and thawed, and the phases of a schedule.",
    run,
    parts=("data", "model"),
    examples=(
        "layers --config configs/quickstart.yaml",
        "layers --config configs/quickstart.yaml --schedule gradual_unfreeze",
    ),
    shows=("config", "schedule", "model.backbone", "model.layers.decay", "model.layers.coarse"),
)
