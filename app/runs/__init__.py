"""A run's folder and what is in it: the only room that reads or writes checkpoints and results."""

from app.runs.checkpoints import (
    CONFIGURATION,
    check_weights,
    checkpoint_of_run,
    contract_of,
    find_checkpoint,
    read_checkpoint,
    relabelled,
    stamp,
)
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
from app.runs.loaded import Run, load_run
from app.runs.log import LOG, note, run_log, tell
from app.runs.results import best_values, write_results
from app.runs.tables import check_new, check_table_file, table_file
from app.runs.writing import WholeCheckpointIO, whole_file

__all__ = [
    "CONFIGURATION",
    "LOCK",
    "LOG",
    "RUNS",
    "Run",
    "WholeCheckpointIO",
    "best_values",
    "check_name",
    "check_new",
    "check_places",
    "check_same",
    "check_table_file",
    "check_weights",
    "checkpoint_of_run",
    "claim_folder",
    "contract_of",
    "differences",
    "find_checkpoint",
    "forget_claim",
    "identity",
    "identity_of_options",
    "load_run",
    "lock_folder",
    "lost",
    "note",
    "read_checkpoint",
    "relabelled",
    "release_folder",
    "run_log",
    "run_of",
    "stamp",
    "table_file",
    "tell",
    "whole_file",
    "write_results",
]
