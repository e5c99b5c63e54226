"""The synthetic pairs of tasks of the paper on MMoE."""

import numpy as np
import pytest
import torch

from datamodules.sources import SPLITS, RelatedPair


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.2, 1.0])
def test_without_sines_the_labels_are_projections_with_this_cosine(cosine: float) -> None:
    source = RelatedPair(dimension=7, cosine=cosine, sines=0, scale=2.0, noise=0.0, train_rows=100)
    split = source.split("train")
    y = np.stack([split.labels(task).numpy() for task in source.targets], axis=1)
    w = np.linalg.lstsq(split.inputs.numpy(), y, rcond=None)[0].T
    assert np.allclose(split.inputs.numpy() @ w.T, y, atol=1e-5)
    assert np.allclose(w @ w.T, [[4, 4 * cosine], [4 * cosine, 4]], atol=1e-5)


def test_labels_are_the_paper_s_sum_by_hand() -> None:
    arguments = {"dimension": 3, "cosine": 0.2, "noise": 0.0, "train_rows": 50}
    straight, bent = (RelatedPair(sines=sines, **arguments).split("train") for sines in (0, 3))
    assert torch.equal(straight.inputs, bent.inputs)
    for task in ("first", "second"):
        a = straight.labels(task)  # w_tᵀx
        by_hand = a + torch.sin(a) + torch.sin(2 * a + 1) + torch.sin(3 * a + 4)
        assert torch.allclose(bent.labels(task), by_hand, atol=1e-5)


def test_at_cosine_one_the_tasks_differ_by_their_noise_alone() -> None:
    split = RelatedPair(cosine=1.0, noise=0.1, train_rows=20_000).split("train")
    difference = split.labels("first") - split.labels("second")
    assert difference.std().item() == pytest.approx(0.1 * 2**0.5, rel=0.03)


def test_a_seed_is_one_data_set_and_no_row_is_in_two_splits() -> None:
    sizes = {"train_rows": 30, "val_rows": 20, "test_rows": 10}
    first, again, other = (RelatedPair(dimension=4, seed=seed, **sizes) for seed in (0, 0, 1))
    rows = torch.cat([first.split(name).inputs for name in SPLITS])
    assert [len(first.split(name)) for name in SPLITS] == [30, 20, 10]
    assert len(rows.unique(dim=0)) == 60
    assert torch.equal(first.split("val").labels("second"), again.split("val").labels("second"))
    assert not torch.equal(first.split("val").inputs, other.split("val").inputs)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [("dimension", 1, "at least 2, found 1"), ("cosine", 1.5, "1, found 1.5"), ("noise", -0.1, "negative, found -0.1")],
)
def test_what_cannot_be_is_refused_in_one_line(key: str, value: float, found: str) -> None:
    with pytest.raises(ValueError, match=f"data.sources.{key}: must .*{found}$"):
        RelatedPair(**{key: value})
