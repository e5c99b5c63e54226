"""A run's folder and what is in it: the only room that reads or writes checkpoints and results."""

from app.runs.checkpoints import check_weights, find_checkpoint, read_checkpoint, stamp
from app.runs.folder import (
    LOCK,
    RUNS,
    check_name,
    check_places,
    claim_folder,
    forget_claim,
    lock_folder,
    release_folder,
    run_of,
)
from app.runs.identity import check_same, differences, identity, identity_of_options, lost
from app.runs.results import best_values, write_results
from app.runs.writing import WholeCheckpointIO, whole_file

__all__ = [
    "LOCK",
    "RUNS",
    "WholeCheckpointIO",
    "best_values",
    "check_name",
    "check_places",
    "check_same",
    "check_weights",
    "claim_folder",
    "differences",
    "find_checkpoint",
    "forget_claim",
    "identity",
    "identity_of_options",
    "lock_folder",
    "lost",
    "read_checkpoint",
    "release_folder",
    "run_of",
    "stamp",
    "whole_file",
    "write_results",
]
