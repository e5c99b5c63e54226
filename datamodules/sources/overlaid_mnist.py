"""Multi-MNIST and its relatives, made from the files of MNIST."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import MNIST

from datamodules.errors import DataError
from datamodules.sources import idx
from datamodules.sources.base import Source
from datamodules.sources.memory import TensorSplit
from datamodules.sources.split import SPLITS, SplitName
from datamodules.splits.folds import Folds
from datamodules.targets import Categorical, Target

FILES = ("train", "t10k")
IMAGE, CANVAS, SHIFT = 28, 36, 6
MEAN, STD = 0.1307, 0.3081
Images = tuple[Tensor, Tensor]  # [N, 28, 28], uint8, and their labels [N]
VAL_SHARE = 6  # the last sixth of the training file: 10,000 of MNIST's 60,000


class OverlaidMNIST(Source):
    """Pairs of overlaid images: Multi-MNIST, Multi-Fashion or Multi-Fashion+MNIST, by the folders that are given.

    Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization" (2018): one image lies at (0, 0) of a 36×36
    canvas, another at (6, 6); where they meet, the brighter pixel counts. The canvas is resized to 28×28 (nearest
    pixel), and normalised with MNIST's mean and standard deviation. The other image is drawn from the same split, and
    may be of the same class. As in Kurin et al., "In Defense of the Unitary Scalarization for Deep Multi-Task Learning"
    (2022), training has the first 50,000 images of the training file, validation the last 10,000 (of a file of another
    size, the last sixth), and the test those of the test file. Theirs draws without a seed.

    Tasks: `left` and `right`, the class of the image at (0, 0) and of that at (6, 6).

    Args:
        left: The folder with the four files of the images at (0, 0), `train-images-idx3-ubyte` and so on, raw or .gz;
            or the root folder of a dataset that torchvision has downloaded.
        right: The same of the images at (6, 6); those of `left` if it is left out.
        left_classes: Names of the classes of `left`, in the order of their indices.
        right_classes: Names of the classes of `right`; those of `left` if they are left out.
        download: Let torchvision download MNIST into each folder that lacks a file.
        seed: Which images are paired. Not the seed of the training run.

    Raises:
        ValueError: A file is missing, is not whole or does not belong to the others, or a download failed.
    """

    def __init__(
        self,
        left: str,
        right: str | None = None,
        left_classes: tuple[str, ...] = tuple("0123456789"),
        right_classes: tuple[str, ...] | None = None,
        download: bool = False,
        seed: int = 0,
    ) -> None:
        self.targets: dict[str, Target] = {
            "left": Categorical(tuple(left_classes)),
            "right": Categorical(tuple(left_classes if right_classes is None else right_classes)),
        }
        lefts = _read("left", left, download)
        rights = lefts if right is None else _read("right", right, download)
        self._files, self._seed = (lefts, rights), seed
        self._splits = {name: _paired(lefts[name], rights[name], (seed, n)) for n, name in enumerate(SPLITS)}

    def split(self, name: SplitName) -> TensorSplit:
        """Inputs are [N, 1, 28, 28], normalised."""
        return self._splits[name]

    def folded(self, folds: Folds) -> OverlaidMNIST:
        """These images; those of training and validation are divided, each folder's by itself, and paired anew.

        Images of the same folder at both places are divided the same way.
        """
        lefts, rights = (_divided(files, folds, folds.stratify in self.targets) for files in self._files)
        key = (self._seed, folds.seed, folds.k, folds.fold)
        source = copy.copy(self)
        source._splits = dict(self._splits)
        for number, name in enumerate(lefts):
            source._splits[name] = _paired(lefts[name], rights[name], (*key, number))
        return source


def _divided(files: Mapping[SplitName, Images], folds: Folds, stratified: bool) -> dict[SplitName, Images]:
    """The images for training and for validation of a fold."""
    images, labels = (torch.cat(parts) for parts in zip(files["train"], files["val"], strict=True))
    held_out = folds.held_out_scans(labels, stratified)
    return {"train": (images[~held_out], labels[~held_out]), "val": (images[held_out], labels[held_out])}


def _paired(left: Images, right: Images, key: Sequence[int]) -> TensorSplit:
    """Each image at the left with one of those at the right, drawn from `key`."""
    drawn = torch.from_numpy(np.random.default_rng(key).integers(len(right[0]), size=len(left[0])))
    return TensorSplit(overlaid(left[0], right[0][drawn]), {"left": left[1], "right": right[1][drawn]})


def overlaid(left: Tensor, right: Tensor) -> Tensor:
    """Pairs of images [N, 28, 28], uint8, overlaid, resized and normalised: [N, 1, 28, 28]."""
    canvas = torch.zeros(len(left), CANVAS, CANVAS, dtype=torch.uint8)
    canvas[:, :IMAGE, :IMAGE] = left
    corner = canvas[:, SHIFT : SHIFT + IMAGE, SHIFT : SHIFT + IMAGE]
    torch.maximum(corner, right, out=corner)
    nearest = ((torch.arange(IMAGE) + 0.5) * CANVAS / IMAGE).long()
    pixels = canvas[:, None, nearest[:, None], nearest].to(torch.get_default_dtype())
    return pixels.div_(255).sub_(MEAN).div_(STD)


def _read(key: str, folder: str, download: bool) -> dict[SplitName, Images]:
    """Split → images [N, 28, 28], uint8, and their labels [N]."""
    root = Path(folder).expanduser()
    names = [f"{part}-{content}-ubyte" for part in FILES for content in ("images-idx3", "labels-idx1")]
    if download and not all(idx.find(root, name) for name in names):
        _download(key, root)
    paths = {name: idx.find(root, name) for name in names}
    found = [path for path in paths.values() if path]
    if len(found) < len(names):
        missing = next(name for name, path in paths.items() if path is None)
        raise DataError(key, f"the folder must have the file {missing} or {missing}.gz", f"none in {root}")
    train, test = (_pair(*found[i : i + 2]) for i in (0, 2))
    end = len(train[0]) - len(train[0]) // VAL_SHARE
    first, last = slice(end), slice(end, None)
    return {"train": (train[0][first], train[1][first]), "val": (train[0][last], train[1][last]), "test": test}


def _pair(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    images, labels = idx.read(images_path, 3), idx.read(labels_path, 1)
    if images.shape[1:] != (IMAGE, IMAGE):
        found = "×".join(map(str, images.shape[1:]))
        raise DataError(images_path, f"images must have {IMAGE}×{IMAGE} pixels", found)
    if len(images) != len(labels):
        raise DataError(
            labels_path, f"must have a label for each of the {len(images)} images of {images_path.name}", len(labels)
        )
    return images, labels.long()


def _download(key: str, root: Path) -> None:
    try:
        MNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(key, f"download must reach a server of MNIST, found: {reason}") from error
