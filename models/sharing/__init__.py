"""Sharing: which parts of the network tasks have in common."""

from models.sharing.adapters import LowRankAdapters
from models.sharing.base import Sharing
from models.sharing.branching import Branching
from models.sharing.cgc import CGC
from models.sharing.conditioned import Conditioned
from models.sharing.cross_stitch import CrossStitch
from models.sharing.dselect_k import DSelectK
from models.sharing.factorised import TensorFactorisation
from models.sharing.hard import HardSharing
from models.sharing.independent import IndependentNetworks
from models.sharing.mmoe import MMoE
from models.sharing.mtan import MTAN
from models.sharing.normalization import TaskNormalization
from models.sharing.ple import PLE
from models.sharing.sluice import Sluice
from models.sharing.soft import SoftSharing

__all__ = [
    "CGC",
    "MTAN",
    "PLE",
    "Branching",
    "Conditioned",
    "CrossStitch",
    "DSelectK",
    "HardSharing",
    "IndependentNetworks",
    "LowRankAdapters",
    "MMoE",
    "Sharing",
    "Sluice",
    "SoftSharing",
    "TaskNormalization",
    "TensorFactorisation",
]
