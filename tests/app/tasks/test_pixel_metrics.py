"""Metrics of tasks with a label a pixel, against scikit-learn and NumPy on all pixels of the epoch at once."""

from pathlib import Path

import numpy as np
import pixel_metrics_on_ranks as script
import pytest
import torch
from forked import Forks
from sklearn.metrics import accuracy_score, jaccard_score
from torch import Tensor

from app.tasks.pixel_metrics import AngleMedian


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    """Every curve but the losses."""
    batches = [script.batch(number) for number in range(len(script.SIZES))]
    outputs, labels = ({n: [part[side][n].numpy() for part in batches] for n in script.TARGETS} for side in (0, 1))
    guess = np.concatenate([each.argmax(1).ravel() for each in outputs["segments"]])
    segments = np.concatenate([each.ravel() for each in labels["segments"]])
    guess, segments = guess[segments != -1], segments[segments != -1]
    depth = np.concatenate([each.ravel() for each in labels["depth"]]).astype(float)
    error = np.abs(np.concatenate([each.ravel() for each in outputs["depth"]]) - depth)
    there = ~np.isnan(depth)
    angles = []
    for number in (0, 2, 3):  # batch 1 has none
        predicted, normals = (np.moveaxis(each["normals"][number], 1, -1).reshape(-1, 3) for each in (outputs, labels))
        for vector, normal in zip(predicted.astype(float), normals.astype(float), strict=True):
            if normal.any():
                cosine = vector @ normal / np.linalg.norm(vector) / np.linalg.norm(normal)
                angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    assert 20 < np.mean(np.array(angles) < 22.5) * 100 < 80
    return {
        "miou/val/segments": jaccard_score(segments, guess, average="macro"),  # over the classes that occur
        "accuracy/val/segments": accuracy_score(segments, guess),
        "abs_error/val/depth": error[there].mean(),
        "rel_error/val/depth": (error[there & (depth != 0)] / depth[there & (depth != 0)]).mean(),
        "angle_mean/val/normals": np.mean(angles),
        "angle_median/val/normals": pytest.approx(np.median(angles), abs=0.005 + 1e-9),
        "within_11_25/val/normals": np.mean(np.array(angles) < 11.25),
        "within_22_5/val/normals": np.mean(np.array(angles) < 22.5),
        "within_30/val/normals": np.mean(np.array(angles) < 30),
    }


def check(values: dict[str, Tensor], expected: dict[str, float]) -> None:
    found = {name: value.item() for name, value in values.items() if not name.startswith("loss/")}
    assert list(found) == list(expected) or set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == (value if name.startswith("angle_median") else pytest.approx(value, rel=1e-6)), name


def test_all_batches_give_what_all_pixels_at_once_give(expected: dict[str, float]) -> None:
    tasks, metrics = script.new()
    script.feed(metrics, tasks, [0, 1, 2, 3])
    check(metrics.compute(), expected)
    script.feed(metrics, tasks, [0, 1, 2, 3])  # the epoch before is forgotten
    check(metrics.compute(), expected)


def test_batches_of_two_processes(forks: Forks, expected: dict[str, float], tmp_path: Path) -> None:
    forks.run(Path(script.__file__), str(tmp_path), ranks=2)
    for rank in range(2):
        check(torch.load(tmp_path / f"rank-{rank}.pt"), expected)


def test_a_run_goes_on_from_the_sums_of_several_processes(expected: dict[str, float]) -> None:
    parts = []
    for numbers in ([0, 2], [1]):
        tasks, metrics = script.new()
        script.feed(metrics, tasks, numbers)
        parts.append(metrics.sums())
    tasks, metrics = script.new()
    metrics.go_on_from(parts)
    script.feed(metrics, tasks, [3])
    check(metrics.compute(), expected)


def test_the_mean_over_images_is_another_one(expected: dict[str, float]) -> None:
    """Which is why one confusion matrix is kept."""
    each = []
    for number, size in enumerate(script.SIZES):
        outputs, labels = script.batch(number)
        for row in range(size):
            there = labels["segments"][row] != -1
            guess = outputs["segments"][row].argmax(0)[there]
            each.append(jaccard_score(labels["segments"][row][there], guess, average="macro"))
    assert abs(np.mean(each) / expected["miou/val/segments"] - 1) > 0.005


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_the_median_of_odd_and_even_numbers(count: int) -> None:
    turned = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64) * 180
    vectors = torch.stack([turned.deg2rad().cos(), turned.deg2rad().sin()], dim=1)
    metric = AngleMedian()
    metric.update(vectors, torch.tensor([[1.0, 0.0]]).expand(count, 2))
    assert metric.compute().item() == pytest.approx(np.median(turned.numpy()), abs=0.005 + 1e-9)
    opposite = AngleMedian()
    opposite.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert opposite.compute().item() == pytest.approx(180, abs=0.005 + 1e-9)


def test_an_angle_that_is_no_number_makes_the_median_none() -> None:
    metric = AngleMedian()
    label = torch.tensor([[0.0, 1.0]])
    for value in (0.0, torch.nan, torch.inf):
        metric.update(torch.tensor([[value, 1.0]]), label)
        assert metric.compute().isnan() == (value != 0)
    assert metric.counts.sum() == 3
    metric.reset()
    metric.update(label, label)
    assert metric.compute().item() == pytest.approx(0, abs=0.005 + 1e-9)


def test_batches_without_a_pixel_change_nothing(expected: dict[str, float]) -> None:
    tasks, metrics = script.new()
    script.feed(metrics, tasks, [0, 1, 2, 3])
    for name, target in script.TARGETS.items():
        outputs, labels = script.batch(1)
        nothing = torch.full_like(labels[name], target.missing)
        metrics.update(torch.zeros(3), torch.zeros(3), {name: tasks[name].measured(outputs[name], nothing)})
    check(metrics.compute(), expected)


def test_directions() -> None:
    better = script.new()[1].higher_is_better()
    higher = {name.split("/")[0] for name, high in better.items() if high}
    assert higher == {"miou", "accuracy", "within_11_25", "within_22_5", "within_30"}
