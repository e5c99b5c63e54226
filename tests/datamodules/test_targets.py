"""What a label is: statistics of the training split, and labels that break the rule."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target

INF, NAN = float("inf"), float("nan")
CATEGORICAL, MULTILABEL = Categorical(("a", "b", "c")), MultiLabel(("a", "b"))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_class_counts_include_classes_without_rows(dtype: torch.dtype) -> None:
    assert CATEGORICAL.fitted(torch.tensor([1, 1, 0, 1], dtype=dtype)) == Categorical(("a", "b", "c"), (1, 3, 0))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_shares_of_ones(dtype: torch.dtype) -> None:
    assert Binary(("no", "yes")).fitted(torch.tensor([1, 0, 0, 0]).to(dtype)).positives == 0.25
    assert MULTILABEL.fitted(torch.tensor([[1, 0], [0, 0], [1, 0], [1, 1]]).to(dtype)).positives == (0.75, 0.25)


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e6])
def test_mean_and_standard_deviation(offset: float) -> None:
    labels = (torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 7 + offset).float()
    target = Continuous("kg").fitted(labels)
    assert target.unit == "kg"
    assert target.mean == pytest.approx(np.mean(labels.double().numpy()), rel=1e-12)
    assert target.std == pytest.approx(np.std(labels.double().numpy()), rel=1e-9)


@pytest.mark.parametrize("value", [0.1, -1e8])
def test_equal_labels_have_the_standard_deviation_one(value: float) -> None:
    labels = torch.full((1001,), value)
    assert Continuous().fitted(labels) == Continuous(mean=labels[0].item(), std=1.0)


@pytest.mark.parametrize(
    ("target", "labels", "bad"),
    [
        (CATEGORICAL, torch.tensor([0, 2, 3, -1, 1]), [2, 3]),
        (CATEGORICAL, torch.tensor([0.0, 2.0, 1.5, NAN, INF, -INF]), [2, 3, 4, 5]),
        (Binary(), torch.tensor([0, 1, 2, -1]), [2, 3]),
        (Binary(), torch.tensor([0.0, 1.0, 0.5, NAN, INF]), [2, 3, 4]),
        (MULTILABEL, torch.tensor([[0.0, 1.0], [1.0, 2.0], [NAN, 0.0], [0.5, 1.0], [1.0, 1.0]]), [1, 2, 3]),
        (Continuous(), torch.tensor([-1e30, NAN, INF, -INF, 0.0]), [1, 2, 3]),
        (Continuous(), torch.tensor([3, -3]), []),
    ],
)
def test_invalid_labels(target: Target, labels: Tensor, bad: list[int]) -> None:
    invalid = target.invalid(labels)
    assert (invalid.dtype, invalid.shape) == (torch.bool, labels.shape[:1])
    assert invalid.nonzero().flatten().tolist() == bad


@pytest.mark.parametrize(
    ("target", "outputs", "label_shape", "rule"),
    [
        (CATEGORICAL, 3, (), "a class index from 0 to 2"),
        (Binary(), 1, (), "0 or 1"),
        (MULTILABEL, 2, (2,), "2 values of 0 or 1"),
        (Continuous(), 1, (), "a finite number within ±3.4e+38"),
    ],
)
def test_outputs_shape_and_rule(target: Target, outputs: int, label_shape: tuple[int, ...], rule: str) -> None:
    assert (target.outputs, target.label_shape, target.rule) == (outputs, label_shape, rule)
