"""What a label is. How it is learned is the business of `app.tasks`."""

from datamodules.targets.base import Target
from datamodules.targets.dense import Dense, DenseCategorical, DenseContinuous, UnitVectors
from datamodules.targets.flat import Binary, Categorical, Continuous, MultiLabel

__all__ = [
    "Binary",
    "Categorical",
    "Continuous",
    "Dense",
    "DenseCategorical",
    "DenseContinuous",
    "MultiLabel",
    "Target",
    "UnitVectors",
]
