"""Backbones: one sample in, one feature a stage out."""

from models.backbones.base import Backbone
from models.backbones.creation import reading_once, wants_pretrained_weights, without_pretrained_weights
from models.backbones.late_fusion import LateFusion
from models.backbones.lenet import LeNet
from models.backbones.mlp import MLP
from models.backbones.part import BackboneBuilder, BackbonePart
from models.backbones.projected import Projected
from models.backbones.timm_backbone import TimmBackbone

__all__ = [
    "MLP",
    "Backbone",
    "BackboneBuilder",
    "BackbonePart",
    "LateFusion",
    "LeNet",
    "Projected",
    "TimmBackbone",
    "reading_once",
    "wants_pretrained_weights",
    "without_pretrained_weights",
]
