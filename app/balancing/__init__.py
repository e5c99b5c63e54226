"""How the losses of several tasks become one update."""

from app.balancing.base import Scalarizer, Step, Weighting
from app.balancing.cagrad import CAGrad
from app.balancing.config import Balancer, GradientConfig, check_accumulation
from app.balancing.dwa import DWA
from app.balancing.fairgrad import FairGrad
from app.balancing.famo import FAMO
from app.balancing.fixed import FixedWeights
from app.balancing.gls import GLS
from app.balancing.gradnorm import GradNorm
from app.balancing.gradvac import GradVac
from app.balancing.imtl_l import IMTLL
from app.balancing.log_losses import LogLosses
from app.balancing.nash_mtl import NashMTL
from app.balancing.random import RLW
from app.balancing.stch import STCH
from app.balancing.step import Balance, MicroBatch, Parameters
from app.balancing.uncertainty import UncertaintyWeighting
from app.balancing.uncertainty_soft_optimal import UWSO
from app.balancing.update import Update
from app.balancing.worst_case import ExponentiatedGradient, WorstCase

__all__ = [
    "DWA",
    "FAMO",
    "GLS",
    "IMTLL",
    "RLW",
    "STCH",
    "UWSO",
    "Balance",
    "Balancer",
    "CAGrad",
    "ExponentiatedGradient",
    "FairGrad",
    "FixedWeights",
    "GradNorm",
    "GradVac",
    "GradientConfig",
    "LogLosses",
    "MicroBatch",
    "NashMTL",
    "Parameters",
    "Scalarizer",
    "Step",
    "UncertaintyWeighting",
    "Update",
    "Weighting",
    "WorstCase",
    "check_accumulation",
]
