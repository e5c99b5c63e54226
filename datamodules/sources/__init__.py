"""One dataset format a file."""

from datamodules.sources.base import SPLITS, Source, Split, SplitName, TensorSplit
from datamodules.sources.digits import Digits

__all__ = ["SPLITS", "Digits", "Source", "Split", "SplitName", "TensorSplit"]
