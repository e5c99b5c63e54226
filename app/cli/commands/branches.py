"""The subcommand `branches`."""

from pathlib import Path

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from app.branching.of_a_run import tree_of_run
from app.cli.command import Command, Session
from app.cli.of_a_run import add_which_run
from app.runs import checkpoint_of_run, load_run


def run(session: Session) -> None:
    """Print a fragment of a configuration."""
    options = session.options
    loaded = load_run(checkpoint_of_run(Path(options.run), options.ckpt_path))
    tree = tree_of_run(loaded, options.budget, options.rows)
    print("model:\n  sharing:\n    class_path: Branching\n    init_args:\n      tree:")
    for stage, groups in tree.items():
        names = yaml.safe_dump(groups, default_flow_style=True, width=10**6, allow_unicode=True)
        print(f"        {stage}: {names.strip()}")


def options(parser: LightningArgumentParser) -> None:
    """Which run, and how large the tree may be."""
    add_which_run(parser)
    parser.add_argument(
        "--budget",
        type=float,
        default=1.5,
        help="How many times the parameters of one backbone the tree may have.",
    )
    parser.add_argument(
        "--rows", type=int, default=500, help="Rows of validation on which the tasks' networks are compared."
    )


COMMAND = Command(
    "Find which tasks should share which stages, from a run of independent networks.",
    run,
    parts=(),
    options=options,
    examples=(
        "fit -c configs/quickstart.yaml -c configs/sharing/independent.yaml --name alone",
        "branches --run runs/alone",
        "branches --run runs/alone --budget 2",
    ),
)
