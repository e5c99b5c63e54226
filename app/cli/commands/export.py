"""The subcommand `export`."""

from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.cli import LightningArgumentParser

from app.cli.command import Command, Session
from app.cli.of_a_run import add_which_run
from app.exports import ENDINGS, export
from app.runs import checkpoint_of_run, load_run, run_of
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
    for file in (path, path.with_suffix(".json")):
        if file.exists() and not options.overwrite:
            raise ConfigurationError("output", "must not be there yet, or `--overwrite true` be given", file)
    split = loaded.own_rows("test") if options.input is None else loaded.rows(options.input)
    for written in export(loaded, options.format, path, loaded.read(split, torch.arange(min(ROWS, len(split))))):
        print(f"Wrote {written}")


def options(parser: LightningArgumentParser) -> None:
    """What is written, and where it goes."""
    add_which_run(parser)
    parser.add_argument(
        "--format",
        type=Literal["onnx", "torch", "timm"],
        default="onnx",
        help="A graph for ONNX's runtimes, or for torch.export.load; or the trunk's weights under timm's own names.",
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="The file; null for model.onnx, model.pt2 or model.safetensors in the run's folder.",
    )
    parser.add_argument("--overwrite", type=bool, default=False, help="Whether the file may be there already.")
    parser.add_argument(
        "--input",
        type=str | None,
        default=None,
        nargs="+",
        help="Rows on which the file is compared with the network; null for those of the run's test split.",
    )


COMMAND = Command(
    "Write a trained network for another program: ONNX, torch.export, timm.", run, parts=(), options=options
)
