"""The subcommand `test`."""

from lightning.pytorch.cli import LightningArgumentParser

from app.cli.command import READING, Command, Session
from app.cli.of_a_run import add_input, add_run
from app.reports.figures import tell_figures


def run(session: Session) -> None:
    """Print the test split's figures, or those of the rows that are given."""
    tell_figures("test", session.trainer.test(**session.weights(), verbose=False)[0])
    if session.options.input is not None and session.trainer.is_global_zero:
        print(f"{len(session.data.datasets['test'])} rows of {', '.join(session.options.input)}")


def options(parser: LightningArgumentParser) -> None:
    """What is tested."""
    add_run(parser)
    add_input(parser, "Rows with labels")


COMMAND = Command(
    "Print a checkpoint's figures of the test split.",
    run,
    reads="best",
    options=options,
    wants_labels=True,
    examples=("test --run runs/quickstart", "test --config configs/quickstart.yaml --ckpt_path last"),
    shows=READING,
)
