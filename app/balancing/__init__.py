"""How the losses of several tasks become one update."""

from app.balancing.base import Scalarizer, Step, Weighting
from app.balancing.fixed import FixedWeights
from app.balancing.update import Balance, Balancer, GradientConfig, MicroBatch, Parameters, Update

__all__ = [
    "Balance",
    "Balancer",
    "FixedWeights",
    "GradientConfig",
    "MicroBatch",
    "Parameters",
    "Scalarizer",
    "Step",
    "Update",
    "Weighting",
]
