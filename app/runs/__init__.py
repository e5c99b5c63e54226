"""A run's folder and what is in it: the only room that reads or writes checkpoints and results."""

from app.runs.checkpoints import check_weights, find_checkpoint, read_checkpoint, stamp
from app.runs.folder import LOCK, RUNS, check_name, claim_folder, forget_claim, lock_folder, release_folder, run_of
from app.runs.identity import check_identity, identity
from app.runs.results import best_values, write_results

__all__ = [
    "LOCK",
    "RUNS",
    "best_values",
    "check_identity",
    "check_name",
    "check_weights",
    "claim_folder",
    "find_checkpoint",
    "forget_claim",
    "identity",
    "lock_folder",
    "read_checkpoint",
    "release_folder",
    "run_of",
    "stamp",
    "write_results",
]
