"""The options of a run, beside those of data, model and trainer."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from app.configuration import timm_name
from app.measuring.monitoring import Mode
from app.transfer import Schedule
from models.errors import ConfigurationError

MONITOR = "loss/val/total"  # what the best checkpoint is chosen by, unless `monitor` says otherwise


def add_options(parser: LightningArgumentParser) -> None:
    """Add the options of a run, and what flows from the data to the model."""
    parser.add_argument("--name", type=str, default="default", help="Runs go to runs/<name>/version_<k>/.")
    parser.add_argument(
        "--monitor",
        type=str,
        default=MONITOR,
        help="Validation curve that the best checkpoint is chosen by; its metric says in which direction.",
    )
    parser.add_argument(
        "--monitor_mode",
        type=Mode | None,
        default=None,
        help="Whether a small (min) or a large (max) value of `monitor` is good; null for what its metric says.",
    )
    parser.add_argument(
        "--patience",
        type=int | None,
        default=None,
        help="Stop after so many validations in which `monitor` got no better; under a schedule, of its last phase; "
        "null trains to the end.",
    )
    parser.add_argument(
        "--nan_patience",
        type=int,
        default=3,
        help="Stop after so many optimizer steps whose losses or gradients are NaN or infinite; no checkpoint is "
        "written from the first of them on.",
    )
    parser.add_argument(
        "--save_every_n_steps",
        type=int | None,
        default=None,
        help="Write checkpoints/last.ckpt after every so many optimizer steps too; null writes it at the end of "
        "each epoch alone.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="A checkpoint's file, or `best` or `last`: the newest under runs/<name>/. `fit` goes on from it in "
        "its folder; the other subcommands read its weights, `best` if none is named.",
    )
    parser.add_argument(
        "--resume_anyway",
        type=bool,
        default=False,
        help="Go on from `ckpt_path` although the configuration is of another experiment than the checkpoint's.",
    )
    parser.add_argument(
        "--schedule",
        type=Schedule | None,
        default=None,
        help="Which layers are trained when; phases, or a preset (full, linear_probe, freeze_then_unfreeze, "
        "gradual_unfreeze, lp_ft, surgical), alone or with its options; null for all layers, always.",
    )
    parser.link_arguments("seed_everything", "data.seed", compute_fn=integer_seed)
    parser.link_arguments("model.backbone", "data.network", compute_fn=timm_name)
    parser.link_arguments("data.targets", "model.targets", apply_on="instantiate")
    parser.link_arguments("data.input_shape", "model.input_shape", apply_on="instantiate")


def integer_seed(seed: bool | int) -> int:
    """The seed, which must be one."""
    if isinstance(seed, bool) or not 0 <= seed < 2**32:
        rule = "must be an integer from 0 to 2³² − 1, so that the run can be repeated"
        raise ConfigurationError("seed_everything", rule, seed)
    return seed
