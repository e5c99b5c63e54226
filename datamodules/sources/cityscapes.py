"""Cityscapes with two dense labels, in the files of MTAN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from datamodules.sources.scenes import MapFolder, Scenes, chosen, classes_of, values_of
from datamodules.targets import DenseCategorical, DenseContinuous
from datamodules.targets.maps import InverseDepthMap

Task = Literal["segmentation", "depth"]
TASKS: tuple[Task, ...] = ("segmentation", "depth")
CLASSES = {
    7: ("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    19: (
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    ),
}
FOLDERS = {7: ("label_7", "label"), 19: ("label_19",)}


class Cityscapes(Scenes):
    """Streets of 128×256 (or 256×512) pixels: segmentation into 7 or 19 classes, and inverse depth.

    Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (2016), in the files that Liu et al.
    released with "End-to-End Multi-Task Learning with Attention" (2019): `path/train/` with 2,975 rows, of which
    `val_fraction` is for validation, and `path/val/` with 500 rows, the test. There is no published split for
    validation. A row i has `image/<i>.npy` [H, W, 3] in [0, 1], `label_7/<i>.npy` (`label/` in some copies) or
    `label_19/<i>.npy` [H, W] with classes from 0 and -1 where there is none, and `depth/<i>.npy` [H, W, 1], the inverse
    depth, proportional to the disparity, 0 where there is none. The classes are called as the data set calls its 7
    categories and 19 classes, in its own order.

    Args:
        path: The folder.
        tasks: Which of them are learned.
        classes: Number of classes of the segmentation.
        val_fraction: Share of the rows in `train/` that is for validation; 0 leaves them all for training, as most
            published figures have it, and validates on the test: then nothing may be chosen by it.
        seed: Which rows they are. Not the seed of the training run.

    Raises:
        ValueError: A folder or file is missing, a file is of another size than its image's, or there is no task.
    """

    def __init__(
        self,
        path: str,
        tasks: Sequence[Task] = TASKS,
        classes: Literal[7, 19] = 7,
        val_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        maps = {
            "segmentation": MapFolder(FOLDERS[classes], DenseCategorical(CLASSES[classes]), None, classes_of),
            "depth": MapFolder(("depth",), DenseContinuous(), 1, partial(values_of, InverseDepthMap), least=0),
        }
        super().__init__(path, chosen(maps, tasks), val_fraction, seed)
