"""NYUv2 with three dense labels, in the files of MTAN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from datamodules.sources.scenes import MapFolder, Scenes, chosen, classes_of, normals_of, values_of
from datamodules.targets import DenseCategorical, DenseContinuous, UnitVectors
from datamodules.targets.maps import DepthMap

Task = Literal["segmentation", "depth", "normal"]
TASKS: tuple[Task, ...] = ("segmentation", "depth", "normal")
CLASSES = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)
LAYERS = {
    "segmentation": MapFolder(("label",), DenseCategorical(CLASSES), None, classes_of),
    "depth": MapFolder(("depth",), DenseContinuous("m"), 1, partial(values_of, DepthMap), least=0),
    "normal": MapFolder(("normal",), UnitVectors(), 3, normals_of),
}


class NYUv2(Scenes):
    """Indoor scenes of 288×384 pixels: segmentation into 13 classes, depth in metres, surface normals.

    Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images" (2012), in the files that Liu et al.
    released with "End-to-End Multi-Task Learning with Attention" (2019): `path/train/` with 795 rows, of which
    `val_fraction` is for validation, and `path/val/` with 654 rows, the test. There is no published split for
    validation. A row i has `image/<i>.npy` [H, W, 3] in [0, 1], `label/<i>.npy` [H, W] with classes from 0 and -1 where
    there is none, `depth/<i>.npy` [H, W, 1] and `normal/<i>.npy` [H, W, 3] in the frame of the camera, x first, both 0
    where there is none. Normals are brought to the length 1. The classes are those of the files, in the order of the
    13-class labels by Handa et al., "SceneNet" (2015).

    Args:
        path: The folder.
        tasks: Which of them are learned.
        val_fraction: Share of the rows in `train/` that is for validation; 0 leaves them all for training, as most
            published figures have it, and validates on the test: then nothing may be chosen by it.
        seed: Which rows they are. Not the seed of the training run.

    Raises:
        ValueError: A folder or file is missing, a file is of another size than its image's, or there is no task.
    """

    def __init__(self, path: str, tasks: Sequence[Task] = TASKS, val_fraction: float = 0.1, seed: int = 0) -> None:
        super().__init__(path, chosen(LAYERS, tasks), val_fraction, seed)
