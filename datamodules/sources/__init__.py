"""One dataset format a file."""

from datamodules.errors import UnreadableRowError
from datamodules.sources.base import Source
from datamodules.sources.celeba import CelebA
from datamodules.sources.cifar100 import CIFAR100Superclasses
from datamodules.sources.cityscapes import Cityscapes
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.image_lists import ImageLists
from datamodules.sources.images import ImageSplit
from datamodules.sources.memory import TensorSplit
from datamodules.sources.nyuv2 import NYUv2
from datamodules.sources.overlaid_mnist import OverlaidMNIST
from datamodules.sources.related_pair import RelatedPair
from datamodules.sources.split import SPLITS, Split, SplitName
from datamodules.sources.table import Column, Table
from datamodules.sources.torch_dataset import TorchDataset

__all__ = [
    "SPLITS",
    "CIFAR100Superclasses",
    "CelebA",
    "Cityscapes",
    "Column",
    "Digits",
    "Folder",
    "ImageLists",
    "ImageSplit",
    "NYUv2",
    "OverlaidMNIST",
    "RelatedPair",
    "Source",
    "Split",
    "SplitName",
    "Table",
    "TensorSplit",
    "TorchDataset",
    "UnreadableRowError",
]
