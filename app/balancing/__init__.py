"""How the losses of several tasks become one update."""

from app.balancing.base import Scalarizer, Weighting
from app.balancing.config import Balancer, GradientConfig, check_accumulation
from app.balancing.engine.step import MicroBatch, Parameters, Step, StepRecord
from app.balancing.engine.update import Update
from app.balancing.methods.cagrad import CAGrad
from app.balancing.methods.dwa import DWA
from app.balancing.methods.fairgrad import FairGrad
from app.balancing.methods.famo import FAMO
from app.balancing.methods.fixed import FixedWeights
from app.balancing.methods.gls import GLS
from app.balancing.methods.gradnorm import GradNorm
from app.balancing.methods.gradvac import GradVac
from app.balancing.methods.imtl_l import IMTLL
from app.balancing.methods.log_losses import LogLosses
from app.balancing.methods.mgda import MGDA
from app.balancing.methods.nash_mtl import NashMTL
from app.balancing.methods.rlw import RLW
from app.balancing.methods.stch import STCH
from app.balancing.methods.uncertainty import UncertaintyWeighting
from app.balancing.methods.uw_so import UWSO
from app.balancing.methods.worst_case import ExponentiatedGradient, WorstCase

__all__ = [
    "DWA",
    "FAMO",
    "GLS",
    "IMTLL",
    "MGDA",
    "RLW",
    "STCH",
    "UWSO",
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
    "StepRecord",
    "UncertaintyWeighting",
    "Update",
    "Weighting",
    "WorstCase",
    "check_accumulation",
]
