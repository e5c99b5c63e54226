"""What is shown and saved along the way."""

from app.callbacks.charts import Charts
from app.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from app.callbacks.interruption import Interruption
from app.callbacks.predictions import PredictionWriter
from app.callbacks.progress import TaskProgressBar
from app.callbacks.random_state import RandomState

__all__ = [
    "BestCheckpoint",
    "Charts",
    "Interruption",
    "LastCheckpoint",
    "PredictionWriter",
    "RandomState",
    "TaskProgressBar",
]
