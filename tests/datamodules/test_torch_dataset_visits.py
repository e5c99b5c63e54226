"""What a dataset of torch gives at a visit to a row: the input, and the labels that belong to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from items import BOTH, KIND, Own, pairs
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.reader import Reader
from datamodules.reading.transforms import TorchvisionTransforms
from datamodules.sampling import Booleans, Draw
from datamodules.sources import TorchDataset
from datamodules.targets import Target


class Flips(Dataset):
    """Arrows, each turned at random at each visit; its target is where it points then."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        turned = int(torch.rand(()) < 0.5)
        return torch.tensor([row, turned], dtype=torch.float32), turned


@pytest.mark.parametrize("held", [False, True])
def test_labels_are_those_of_the_visit(held: bool) -> None:
    data = Flips()
    if held:
        data.targets = [0, 1] * 6
    split = TorchDataset(data, KIND, val=data, test=data).split("train")
    rows, reader = torch.arange(12), Reader()
    visits = [reader(split, rows, torch.full((12,), visit)) for visit in range(4)]
    for visit in visits:
        assert torch.equal(visit.labels["kind"], visit.inputs[:, 1].long())
    assert len(torch.stack([visit.labels["kind"] for visit in visits]).unique(dim=0)) == 4


CHANGED = [
    (1, (None, 0.5), "kind", r"must be there at each visit, as at the start, found none$"),
    (0, (0, 2.5), "size", r"must be missing at each visit, as at the start, found one$"),
    (1, (3, 0.5), "kind", r"must be a class index from 0 to 2, found 3$"),
    (1, (0.5, 0.5), "kind", r"must be a class index from 0 to 2, found 0\.5$"),
    (1, ("d", 0.5), "kind", r"must be one of \['a', 'b', 'c'\], found 'd'$"),
    (1, (0, float("inf")), "size", r"must be a finite number within .*, found inf$"),
]


@pytest.mark.parametrize(("row", "target", "task", "message"), CHANGED)
def test_label_that_a_visit_may_not_have(row: int, target: Any, task: str, message: str) -> None:
    data = Own(pairs([(0, None), (1, 0.5)]))
    split = TorchDataset(data, BOTH, val=data, test=data).split("train")
    data.items[row] = (data.items[row][0], target)
    with pytest.raises(ValueError, match=rf"^row {row} of train, target '{task}': a label {message}"):
        split[row]


@dataclass(frozen=True)
class Segments(Target):
    """A user's own target: yes or no at each pixel."""

    outputs = 1
    label_shape = (2, 4)
    rule = "2 rows of 4 zeros and ones"

    def invalid(self, labels: Tensor) -> Tensor:
        return ((labels != 0) & (labels != 1)).flatten(1).any(dim=1)

    def fitted(self, labels: Tensor) -> Target:
        return self


def test_masks_move_with_their_images() -> None:
    """Whatever cuts or turns an image; a row without a mask is of the same shape as the others."""
    image = Image.fromarray(np.array([[0, 85, 170, 255]] * 2, dtype=np.uint8))
    mask = tv_tensors.Mask(torch.tensor([[[0, 0, 1, 1]] * 2]))
    targets: dict[str, Target] = {"outline": Segments(), **KIND}
    data = Own([(image, {"outline": mask, "kind": 2}), (image, {"kind": 1})])
    split = TorchDataset(data, targets, val=data, test=data).split("train")
    moves = [v2.RandomHorizontalFlip(1.0), v2.CenterCrop([2, 2])]
    reader = Reader(TorchvisionTransforms(moves, []).of("train", None))
    everything = Draw(np.arange(2), np.zeros(2, dtype=np.int64), split_feeds(split), [1, 2])
    batch = MultiTaskDataset({"own": split}, list(targets), reader)[everything]
    assert batch.inputs[0].mul(3).round().tolist() == [[[2, 1]] * 2]
    assert batch.targets["outline"].tolist() == [[[1, 0]] * 2]
    assert batch.rows["outline"].tolist() == [0]
    assert batch.targets["kind"].tolist() == [2, 1]


def split_feeds(split: Any) -> Booleans:
    return torch.stack(list(split.labelled.values())).numpy()
