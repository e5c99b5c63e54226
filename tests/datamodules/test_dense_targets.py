"""Labels of a number a pixel: what is refused, and in which words."""

import re

import pytest
import torch
from items import source
from scene import Scene
from torch import Tensor

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import Source, TensorSplit
from datamodules.targets import Dense, DenseCategorical, DenseContinuous, UnitVectors

NAN, INF = torch.nan, torch.inf
KINDS = DenseCategorical(("a", "b", "c"), ignore_index=255)
X = [1.0, 0.0, 0.0]


def vectors(*pixels: list[float]) -> Tensor:
    """A row of pixels, [3, 1, W]."""
    return torch.tensor(pixels).T[:, None]


@pytest.mark.parametrize(
    ("target", "label", "found"),
    [
        (KINDS, torch.tensor([[0, 255], [2, 1]]), None),
        (KINDS, torch.tensor([[0, 255], [3, 1]]), "3 at pixel (1, 0)"),
        (KINDS, torch.tensor([[0, 255], [-1, 1]]), "-1 at pixel (1, 0)"),
        (KINDS, torch.tensor([[0.0, 0.5]]), "0.5 at pixel (0, 1)"),
        (KINDS, torch.full((2, 2), 255), "255 everywhere"),
        (DenseContinuous(), torch.tensor([[NAN, -3.0]]), None),
        (DenseContinuous(), torch.tensor([[NAN, INF]]), "inf at pixel (0, 1)"),
        (DenseContinuous(), torch.tensor([[NAN, NAN]]), "nan everywhere"),
        (UnitVectors(), vectors(X, [0.0, 0.6, -0.8], [0.0, 0.0, 0.0]), None),
        (UnitVectors(), vectors(X, [0.0, 0.5, 0.0]), "[0.0, 0.5, 0.0] at pixel (0, 1)"),
        (UnitVectors(), vectors(X, [0.0, 0.0, NAN]), "[0.0, 0.0, nan] at pixel (0, 1)"),
        (UnitVectors(), vectors([0.0, 0.0, 0.0]), "0 everywhere"),
    ],
    ids=str,
)
def test_what_breaks_the_rule(target: Dense, label: Tensor, found: str | None) -> None:
    assert target.invalid(label[None]).tolist() == [found is not None]
    assert found is None or target.found(label) == found


def test_each_row_is_judged_by_itself() -> None:
    labels = torch.stack([torch.full((2, 3), value) for value in (1, 255, 3, 2)])
    labels[0, 0, 1], labels[2, 1, 2] = 255, 1
    assert KINDS.invalid(labels).tolist() == [False, True, True, False]


def test_what_is_missing_has_no_value() -> None:
    for target, shape in [(KINDS, (2, 4, 5)), (DenseContinuous(), (2, 4, 5)), (UnitVectors(), (2, 3, 4, 5))]:
        labels = torch.ones(shape)
        labels[1, ..., :2, 1:] = target.missing
        valid = torch.ones(2, 4, 5, dtype=torch.bool)
        valid[1, :2, 1:] = False
        assert torch.equal(target.valid(labels), valid)


def test_an_ignored_index_is_of_no_class() -> None:
    with pytest.raises(ValueError, match=r"^ignore_index: must not be the index of a class, 0 to 2, found 2$"):
        DenseCategorical(("a", "b", "c"), ignore_index=2)


class Broken(Source):
    """A scene in which row 5 of a split is changed by a function."""

    def __init__(self, change) -> None:
        self.scene = Scene(rows=12, holes=0.0)
        self.targets, self.change = self.scene.targets, change

    def split(self, name: str) -> TensorSplit:
        split = self.scene.split(name)
        self.change(split)
        return split


def every_segment_ignored(split: TensorSplit) -> None:
    split._labels["segments"][5] = -1


def an_unknown_class(split: TensorSplit) -> None:
    split._labels["segments"][5, 7, 30] = 3


def maps_of_half_the_size(split: TensorSplit) -> None:
    split._labels["depth"] = split._labels["depth"][:, ::2, ::2]


def vectors_of_two(split: TensorSplit) -> None:
    split._labels["normals"] = split._labels["normals"][:, :2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (every_segment_ignored, "split 'train', row 5, target 'segments': a label must be a map of class indices from "
         "0 to 2, or -1 where there is none, but not everywhere, found -1 everywhere"),
        (an_unknown_class, "but not everywhere, found 3 at pixel (7, 30)"),
        (maps_of_half_the_size, "data.sources: row 0, target 'depth': a label must be of its image's height and width, "
         "(32, 48), found (16, 24)"),
        (vectors_of_two, "target 'normals': labels must have the shape (12, 3, -1, -1), found (12, 2, 32, 48)"),
    ],
)  # fmt: skip
def test_refusals(change, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiTaskDataModule({"scene": Broken(change)})


def test_a_row_without_any_value_does_not_carry_the_task() -> None:
    def unlabelled(split: TensorSplit) -> None:
        every_segment_ignored(split)
        split.labelled["segments"] = torch.arange(len(split)) != 5

    data = MultiTaskDataModule({"scene": Broken(unlabelled)})
    batch = next(iter(data.val_dataloader()))
    assert batch.ids[batch.rows["segments"]].tolist() == [row for row in range(32) if row != 5]
    assert data.targets == Scene().targets


def test_a_dataset_whose_labels_are_held_has_no_maps() -> None:
    with pytest.raises(ValueError, match=r"^targets\.depth: must have one label a row, .*, found DenseContinuous;"):
        source([], {"depth": DenseContinuous()})
