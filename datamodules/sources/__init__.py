"""One dataset format a file."""

from datamodules.sources.base import SPLITS, Source, Split, SplitName, UnreadableRowError
from datamodules.sources.digits import Digits
from datamodules.sources.images import ImageSplit
from datamodules.sources.memory import TensorSplit

__all__ = ["SPLITS", "Digits", "ImageSplit", "Source", "Split", "SplitName", "TensorSplit", "UnreadableRowError"]
