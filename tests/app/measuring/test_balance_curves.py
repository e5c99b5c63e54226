"""What balancing shows in TensorBoard: by step, by epoch, and as a picture."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, scalars
from matplotlib import colormaps
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.balancing import StepRecord
from app.callbacks.cosine_map import map_of_cosines
from app.measuring.balance import BalanceMetrics, curves

PAIRS = ["left~right", "left~sum", "left~parity", "right~sum", "right~parity", "sum~parity"]


def test_a_run_shows_weights_norms_cosines_and_conflicts(train_here: Callable, tmp_path: Path) -> None:
    train_here("fit", "--config", str(SMALL), "--model.balancer", "PCGrad", "--trainer.max_epochs", "2")
    folder = tmp_path / "runs/small/version_0"
    points = scalars(folder)
    for task in ("left", "right", "sum", "parity"):
        for quantity in ("weight", "gradient_norm"):
            steps = [value for _, value in points[f"{quantity}/step/{task}"]]
            means = [value for _, value in points[f"{quantity}/train/{task}"]]
            assert len(steps) == 16
            assert means == pytest.approx([np.mean(steps[:8]), np.mean(steps[8:])], rel=1e-5)
    conflicts = np.zeros(16)
    for pair in PAIRS:
        steps = np.array([value for _, value in points[f"cosine/step/{pair}"]])
        assert (np.abs(steps) <= 1 + 1e-6).all()
        conflicts = np.maximum(conflicts, steps < 0)
        assert points[f"cosine/train/{pair}"][1][1] == pytest.approx(steps[8:].mean(), rel=1e-4)
    assert [value for _, value in points["conflict/train/total"]] == pytest.approx(
        [conflicts[:8].mean(), conflicts[8:].mean()]
    )
    file = min(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)  # the test has its own
    events = EventAccumulator(str(file), size_guidance={"images": 0}).Reload()
    pictures = events.Images("cosine/train")
    assert [picture.step for picture in pictures] == [7, 15]
    assert Image.open(io.BytesIO(pictures[0].encoded_image_string)).size == (pictures[0].width, pictures[0].height)
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"weight/train/" in layout
    assert b"cosine/train/" in layout


def test_a_plain_sum_shows_none_of_it(train_here: Callable, tmp_path: Path) -> None:
    train_here("fit", "--config", str(SMALL), "--trainer.max_epochs", "1")
    quantities = {tag.split("/")[0] for tag in scalars(tmp_path / "runs/small/version_0")}
    assert not quantities & {"weight", "gradient_norm", "cosine", "conflict"}


def test_means_are_over_the_steps_of_a_task_or_of_both() -> None:
    metrics = BalanceMetrics(3)
    weights = torch.tensor([2.0, 4.0], dtype=torch.float64)
    rows = torch.tensor([[3.0, 4.0], [-3.0, 4.0]], dtype=torch.float64)
    metrics.update(StepRecord(torch.tensor([0, 2]), weights, rows @ rows.T))
    rows = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    metrics.update(StepRecord(torch.tensor([0, 1]), weights, rows @ rows.T))
    metrics.update(StepRecord(torch.tensor([0, 1]), None))
    shown = {name: value.item() for name, value in curves(["a", "b", "c"], "train", metrics.compute()).items()}
    assert shown == {
        "weight/train/a": 2.0,
        "weight/train/b": 4.0,
        "weight/train/c": 4.0,
        "gradient_norm/train/a": 3.0,
        "gradient_norm/train/b": 0.0,
        "gradient_norm/train/c": 5.0,
        "cosine/train/a~c": pytest.approx(7 / 25),
        "conflict/train/total": 0.0,
    }


def of_colour(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Which pixels [H, W] are of a colour, but for rounding."""
    return (np.abs(picture.astype(int) - colour) <= 1).all(axis=2)


def colour_of(cosine: float) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in colormaps["RdBu_r"]((cosine + 1) / 2)[:3])


def test_heat_map_is_red_where_tasks_agree_and_blue_where_they_conflict() -> None:
    picture = map_of_cosines(np.array([[1.0, -0.75], [-0.75, np.nan]]), ["one", "a very long name of a $task$"])
    assert picture.dtype == np.uint8
    colours = (colour_of(1.0), colour_of(-0.75), (208, 208, 208))
    red, blue, grey = (of_colour(picture, colour).sum() for colour in colours)
    assert colour_of(1.0)[0] > colour_of(1.0)[2]
    assert colour_of(-0.75)[2] > colour_of(-0.75)[0]
    assert grey > 40 * 40
    assert red == pytest.approx(grey, rel=0.1)  # the bar at the side has some of both
    assert blue == pytest.approx(2 * grey, rel=0.15)  # and a number is written on one of two


@pytest.mark.parametrize(("tasks", "numbered"), [(32, True), (33, False), (120, False)])
def test_heat_map_of_many_tasks_has_no_numbers(tasks: int, numbered: bool) -> None:
    picture = map_of_cosines(np.full((tasks, tasks), 0.25), [f"task_{number}" for number in range(tasks)])
    cell = of_colour(picture, colour_of(0.25))
    cells = picture[cell.mean(axis=1) > 0.5][:, cell.mean(axis=0) > 0.5]
    assert len(cells) > 1000
    assert (cells.min() < 128) == numbered
    assert max(picture.shape) < 2200
