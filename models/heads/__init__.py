"""Heads: the features of the backbone's stages in, one prediction out."""

from models.heads.base import Head, pooled
from models.heads.linear import LinearHead
from models.heads.mlp import MLPHead

__all__ = ["Head", "LinearHead", "MLPHead", "pooled"]
