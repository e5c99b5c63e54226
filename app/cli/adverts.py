"""What libraries say that a user can do nothing about."""

from __future__ import annotations

import logging
import sys
import warnings

OF_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
BESIDE_THE_POINT = (  # how warnings begin
    "It is recommended to use .*sync_dist=True",  # of curves that are alike on all ranks
    "You're resuming from a checkpoint that ended before the epoch",  # which we do exactly
    "Be aware that when using `ckpt_path`, callbacks",  # a test needs none of those that trained
    "ReduceLROnPlateau conditioned on metric",  # which is stepped after validation
    "Attempting to set identical low and high xlims",  # of a plot of a single value
    "Checkpoint directory .* exists and is not empty",  # of a run that goes on
    "The '.*' does not have many workers",
    "The `srun` command is available",
)
ADVERTS = ("💡 Tip", "TPU available", "HPU available")


def leave_out_adverts() -> None:
    """Leave such warnings and notices out, unless Python is asked for warnings by `-W` or PYTHONWARNINGS."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advert)
    for text in BESIDE_THE_POINT if not sys.warnoptions else ():
        warnings.filterwarnings("ignore", message=text)
    for category in OF_DEVELOPERS if not sys.warnoptions else ():
        warnings.filterwarnings("ignore", category=category)


def _is_no_advert(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(ADVERTS)
