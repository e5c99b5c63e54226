"""Options that say which run is used, and on which rows."""

from __future__ import annotations

import tempfile
from argparse import Action
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from lightning.pytorch.cli import LightningArgumentParser

from app.runs import CONFIGURATION, checkpoint_of_run, read_checkpoint
from models.errors import ConfigurationError

PARTS = ("seed_everything", "name", "data", "model")  # of a run's configuration, that a use of its network takes


class RunOption(Action):
    """`--run`: the configuration of data and model is that in the run's checkpoint; what stands after it, wins."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Read it into `namespace`."""
        path = checkpoint_of_run(Path(values))
        content = read_checkpoint(path, "run")
        if CONFIGURATION not in content:
            raise ConfigurationError(
                "run", "must be of a run of train.py, which keeps its configuration", f"none in {path}"
            )
        chosen = {key: each for key, each in yaml.safe_load(content[CONFIGURATION]).items() if key in PARTS}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(chosen, file)
            file.flush()
            ActionConfigFile.apply_config(parser, namespace, "config", file.name)
        namespace["config"].pop()
        namespace[self.dest] = values


def add_run(parser: LightningArgumentParser) -> None:
    """Add the option `--run`."""
    parser.add_argument(
        "--run",
        action=RunOption,
        default=None,
        help="A run's folder, or a checkpoint of one, in place of a configuration: its best checkpoint is read, or "
        "the last, unless `ckpt_path` says which.",
    )


def add_which_run(parser: LightningArgumentParser) -> None:
    """Add the options of a command that needs nothing but a run."""
    parser.add_argument("--run", type=str, required=True, help="A run's folder, or a checkpoint of one.")
    parser.add_argument(
        "--ckpt_path",
        type=Literal["best", "last"] | None,
        default=None,
        help="Which checkpoint of the run; null for the best, or the last where nothing was validated.",
    )


def add_input(parser: LightningArgumentParser, what: str) -> None:
    """Add the option `--input`."""
    parser.add_argument(
        "--input",
        type=str | None,
        default=None,
        nargs="+",
        help=f"{what}, in place of the run's own data: a table (CSV, Parquet), a folder of images, images, or an "
        "array (.npy).",
    )


def add_output(parser: LightningArgumentParser, what: str) -> None:
    """Add the options `--output` and `--overwrite`."""
    parser.add_argument("--output", type=str | None, default=None, help=what)
    parser.add_argument("--overwrite", type=bool, default=False, help="Whether the file may be there already.")
