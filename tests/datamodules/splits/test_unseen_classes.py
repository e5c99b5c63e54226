"""A class that the network is tested on, but never sees."""

import re

import pytest
import torch

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import Source, SplitName, TensorSplit
from datamodules.targets import Binary, Categorical, MultiLabel, Target

ABC, TAGS, NO_YES = Categorical(("a", "b", "c")), MultiLabel(("a", "b")), Binary()


class Given(Source):
    """The task `kind` with the given labels, None where there is none."""

    def __init__(self, target: Target, **labels: list) -> None:
        self.targets = {"kind": target}
        self.labels = labels

    def split(self, name: SplitName) -> TensorSplit:
        labels = self.labels[name]
        labelled = torch.tensor([label is not None for label in labels])
        filler = next(label for label in labels if label is not None)
        values = torch.tensor([filler if label is None else label for label in labels])
        return TensorSplit(torch.zeros(len(labels), 2), {"kind": values}, {"kind": labelled})


@pytest.mark.parametrize(
    ("target", "train", "val", "test", "split", "row", "name"),
    [
        (ABC, [0, 1, 1], [0, 1], [1, None, 2], "test", 2, "c"),
        (ABC, [0, 1, 1], [0, 2], [1, 1], "val", 1, "c"),
        (TAGS, [[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], "test", 1, "b"),
        (NO_YES, [0.0, 0.0], [0.0], [0.0, None, 1.0], "test", 2, "yes"),
    ],
    ids=["test", "val", "several labels", "yes"],
)
def test_class_that_training_lacks_is_refused(
    target: Target, train: list, val: list, test: list, split: str, row: int, name: str
) -> None:
    message = (
        f"data.sources.s: split {split!r}, row {row}, target 'kind': "
        f"a class must occur in split 'train' too, found {name!r}, which does not; "
        "add rows of it to 'train', or leave the class out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MultiTaskDataModule({"s": Given(target, train=train, val=val, test=test)})


def test_training_rows_of_all_sources_count_and_other_ones_need_not_have_every_class() -> None:
    MultiTaskDataModule(
        {
            "s": Given(ABC, train=[0, 0], val=[1], test=[2]),
            "t": Given(ABC, train=[1, 2], val=[1], test=[None, 1]),
        }
    )
