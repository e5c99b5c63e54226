"""The subcommand `export`."""

from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.cli import LightningArgumentParser

from app.cli.command import Command, Session
from app.cli.of_a_run import add_output, add_which_run
from app.exports import ENDINGS, export, files_of
from app.runs import check_new, checkpoint_of_run, load_run, run_of
from models.errors import ConfigurationError

ROWS = 16  # that are compared


def run(session: Session) -> None:
    """Write the file, and say what was written."""
    options = session.options
    checkpoint = checkpoint_of_run(Path(options.run), options.ckpt_path)
    loaded = load_run(checkpoint)
    ending = ENDINGS[options.format]
    named = options.output
    path = Path(named).expanduser() if named else (run_of(checkpoint) or checkpoint.parent) / f"model{ending}"
    if path.suffix != ending:
        raise ConfigurationError("output", f"must end with {ending} in the format {options.format}", path)
    files = files_of(loaded, options.format, path)
    for file in files:
        check_new("output", file, options.overwrite)
    split = loaded.own_rows("test") if options.input is None else loaded.rows(options.input)
    export(loaded, options.format, path, loaded.read(split, torch.arange(min(ROWS, len(split)))))
    for file in files:
        print(f"Wrote {file}")


def options(parser: LightningArgumentParser) -> None:
    """What is written, and where it goes."""
    add_which_run(parser)
    parser.add_argument(
        "--format",
        type=Literal["onnx", "torch", "timm"],
        default="onnx",
        help="A graph for ONNX's runtimes, or for torch.export.load; or the trunk's weights under timm's own names.",
    )
    add_output(parser, "The file to write; null for model.onnx, model.pt2 or model.safetensors in the run's folder.")
    parser.add_argument(
        "--input",
        type=str | None,
        default=None,
        nargs="+",
        help="Rows on which the file is compared with the network; null for those of the run's test split.",
    )


COMMAND = Command(
    "Write a trained network for another program: ONNX, torch.export, timm.",
    run,
    parts=(),
    options=options,
    examples=(
        "export --run runs/quickstart",
        "export --run runs/quickstart --format torch --output quickstart.pt2",
        "export --run runs/quickstart --ckpt_path last --output last.onnx",
    ),
)
