"""Sharing: which parts of the network tasks have in common."""

from models.sharing.base import Sharing
from models.sharing.hard import HardSharing
from models.sharing.independent import IndependentNetworks

__all__ = ["HardSharing", "IndependentNetworks", "Sharing"]
