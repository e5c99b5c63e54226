"""The subcommand `validate`."""

from app.cli.command import READING, Command, Session
from app.cli.of_a_run import add_run
from app.reports.figures import tell_figures


def run(session: Session) -> None:
    """Print the validation split's figures."""
    tell_figures("val", session.trainer.validate(**session.weights(), verbose=False)[0])


COMMAND = Command(
    "Print a checkpoint's figures of the validation split.",
    run,
    reads="best",
    options=add_run,
    examples=("validate --run runs/quickstart", "validate --config configs/quickstart.yaml --ckpt_path last"),
    shows=READING,
)
