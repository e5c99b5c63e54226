"""The subcommand `layers`."""

import torch

from app.cli.command import Command, Session
from app.reports.layers import report_layers
from datamodules.sampling import World


def run(session: Session) -> None:
    """Print the layers, what the network costs for the rows of a first step, and the phases of the schedule."""
    _, _, feeds = session.data.train_plan(World()).draw(0, 0)
    report_layers(session.options, session.model, torch.from_numpy(feeds), session.built["schedule"])


COMMAND = Command(
    "List the layers, what of them is shared, what a row costs, and the phases of a schedule.",
    run,
    parts=("data", "model"),
    examples=(
        "layers --config configs/quickstart.yaml",
        "layers --config configs/quickstart.yaml --schedule gradual_unfreeze",
    ),
    shows=("config", "schedule", "model.backbone", "model.layers.decay", "model.layers.coarse"),
)
