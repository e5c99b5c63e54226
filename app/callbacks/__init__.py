"""What is shown and saved along the way."""

from app.callbacks.averaging import EMA, SWA
from app.callbacks.charts import Charts
from app.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from app.callbacks.config_echo import ConfigEcho
from app.callbacks.confusion_map import ConfusionMap
from app.callbacks.cosine_map import CosineMap
from app.callbacks.epoch_lines import EpochLines
from app.callbacks.fafs import FAFS
from app.callbacks.hyper_parameters import HyperParameters
from app.callbacks.interruption import INTERRUPTED, Interruption
from app.callbacks.l2_sp import L2SP
from app.callbacks.layer_curves import LayerCurves
from app.callbacks.learned_curves import LearnedCurves
from app.callbacks.non_finite import NonFinite, NotFiniteError
from app.callbacks.of_a_run import callbacks_of_a_run
from app.callbacks.predictions import PredictionWriter
from app.callbacks.progress import TaskProgressBar
from app.callbacks.resumption import Resumption
from app.callbacks.skipped_rows import SkippedRows
from app.callbacks.step_curves import StepCurves
from app.callbacks.successive import SuccessiveRegularization
from app.callbacks.thawing import Patience, Thawing

__all__ = [
    "EMA",
    "FAFS",
    "INTERRUPTED",
    "L2SP",
    "SWA",
    "BestCheckpoint",
    "Charts",
    "ConfigEcho",
    "ConfusionMap",
    "CosineMap",
    "EpochLines",
    "HyperParameters",
    "Interruption",
    "LastCheckpoint",
    "LayerCurves",
    "LearnedCurves",
    "NonFinite",
    "NotFiniteError",
    "Patience",
    "PredictionWriter",
    "Resumption",
    "SkippedRows",
    "StepCurves",
    "SuccessiveRegularization",
    "TaskProgressBar",
    "Thawing",
    "callbacks_of_a_run",
]
