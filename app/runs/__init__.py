"""A run's folder and what is in it: the only room that reads or writes checkpoints and results."""

from app.runs.checkpoints import check_weights, find_checkpoint, read_checkpoint
from app.runs.folder import RUNS, run_folder

__all__ = ["RUNS", "check_weights", "find_checkpoint", "read_checkpoint", "run_folder"]
