"""Heads: the features of the backbone's stages in, one prediction out, for the input or for each of its pixels."""

from models.heads.base import Head, pooled
from models.heads.deeplab import DeepLabHead
from models.heads.dense import DenseHead
from models.heads.linear import LinearHead
from models.heads.mlp import MLPHead
from models.heads.reading import ReadingHead
from models.heads.upsampling import UpsamplingHead

__all__ = ["DeepLabHead", "DenseHead", "Head", "LinearHead", "MLPHead", "ReadingHead", "UpsamplingHead", "pooled"]
