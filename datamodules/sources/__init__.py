"""One dataset format a file."""

from datamodules.sources.base import SPLITS, Source, Split, SplitName, UnreadableRowError
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.images import ImageSplit
from datamodules.sources.memory import TensorSplit
from datamodules.sources.overlaid_mnist import OverlaidMNIST
from datamodules.sources.table import Column, Table
from datamodules.sources.torch_dataset import TorchDataset

__all__ = [
    "SPLITS",
    "Column",
    "Digits",
    "Folder",
    "ImageSplit",
    "OverlaidMNIST",
    "Source",
    "Split",
    "SplitName",
    "Table",
    "TensorSplit",
    "TorchDataset",
    "UnreadableRowError",
]
