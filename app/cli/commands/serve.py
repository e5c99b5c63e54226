"""The subcommand `serve`."""

from pathlib import Path

import uvicorn
from lightning.pytorch.cli import LightningArgumentParser

from app.cli.command import Command, Session
from app.cli.of_a_run import add_which_run
from app.runs import checkpoint_of_run, load_run
from app.serving import Limits, service


def run(session: Session) -> None:
    """Answer requests, until it is interrupted."""
    options = session.options
    loaded = load_run(checkpoint_of_run(Path(options.run), options.ckpt_path), options.device)
    print(f"Serving {loaded.checkpoint} on http://{options.host}:{options.port}/predict")
    uvicorn.run(service(loaded, options.limits), host=options.host, port=options.port, log_level="warning")


def options(parser: LightningArgumentParser) -> None:
    """Which run, where, and what a request may take."""
    add_which_run(parser)
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="The address that it listens on; by default this machine alone may ask, at 0.0.0.0 others too.",
    )
    parser.add_argument("--port", type=int, default=8000, help="The port that it listens on.")
    parser.add_argument("--device", type=str, default="cpu", help="Where the network computes: cpu, or cuda.")
    parser.add_argument("--limits", type=Limits, default=Limits(), help="What a request may take.")


COMMAND = Command(
    "Answer requests over HTTP with a trained network's predictions.",
    run,
    parts=(),
    options=options,
    examples=("serve --run runs/quickstart", "serve --run runs/quickstart --port 8080 --limits.batch_size 64"),
)
