"""The subcommand `search`."""

from app.cli.command import Command, Session
from app.search import add_search_options, run_search


def run(session: Session) -> None:
    """Choose hyper-parameters."""
    run_search(session.options, session.model, session.built["search"], session.parser("fit"))


COMMAND = Command(
    "Choose hyper-parameters by cross-validation, in a study that several processes share.",
    run,
    parts=("data", "model"),
    options=add_search_options,
    parses=("fit",),
    examples=(
        "search --config configs/quickstart.yaml --config configs/search/common.yaml",
        "fit --config runs/quickstart/search/best.yaml",
    ),
    shows=("config", "name", "monitor"),
)
