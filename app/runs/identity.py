"""What of an experiment must not change when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from models.errors import ConfigurationError

NAME = "identity"  # in a checkpoint
KEYS = ("seed_everything", "monitor", "monitor_mode", "schedule", "data.folds", "model.init_from")
KINDS = ("model.optimizer", "model.lr_scheduler", "model.balancer", "model.sharing")  # whose options may change


def identity(options: Namespace) -> dict[str, str]:
    """Key → what the configuration says there, of the keys that a resumed run must have as they were."""
    return {key: _text(options.get(key)) for key in KEYS} | {key: _kind(options.get(key)) for key in KINDS}


def check_identity(checkpoint: Mapping[str, Any], configured: Mapping[str, str]) -> None:
    """Refuse to go on with another experiment.

    Raises:
        ValueError: The configuration differs from that of the checkpoint's run.
    """
    was: Mapping[str, str] = checkpoint.get(NAME, configured)
    differ = [key for key in configured if was.get(key, configured[key]) != configured[key]]
    if differ:
        more = f" (and {', '.join(differ[1:])} differ)" if differ[1:] else ""
        raise ConfigurationError(
            differ[0],
            f"must be {was[differ[0]]}, as in the checkpoint's run; `--resume_anyway true` goes on, and the run is "
            "then none that a single configuration gives",
            f"{configured[differ[0]]}{more}",
        )


def _text(value: Any) -> str:
    return str(value.as_dict() if isinstance(value, Namespace) else value)


def _kind(value: Any) -> str:
    return str(value.get("class_path", value) if isinstance(value, Namespace) else value)
