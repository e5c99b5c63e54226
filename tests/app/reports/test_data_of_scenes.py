"""`train.py data` on labels of a value a pixel."""

from collections.abc import Callable
from pathlib import Path

import mtan_files
import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL
from PIL import Image
from test_data_command import table_rows
from torch import Tensor

from app.reports.data.sheet import contact_sheet, labels_of, maps_of_row
from datamodules.batch import MultiTaskBatch
from datamodules.targets import Categorical, DenseCategorical, DenseContinuous, Target, UnitVectors

KINDS = DenseCategorical(("sky", "road", "car"))
DEPTH, NORMAL = DenseContinuous("m"), UnitVectors()


def test_report_of_nyuv2(
    train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    root = mtan_files.write_nyuv2(tmp_path / "nyuv2")
    flip = {"class_path": "TorchvisionTransforms", "init_args": {"train": ["RandomScaledCrop"], "eval": []}}
    sources = {"rooms": {"class_path": "NYUv2", "init_args": {"path": str(root), "val_fraction": 0.2}}}
    sampling = {"class_path": "Shared", "init_args": {"batch_size": 5}}
    content = {"name": "rooms", "data": {"sources": sources, "transform": flip, "sampling": sampling}}
    content["model"] = {"backbone": yaml.safe_load(SMALL.read_text())["model"]["backbone"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**content, "trainer": {"accelerator": "cpu"}}))
    train_here("data", "--config", str(tmp_path / "config.yaml"))
    rows = table_rows(capsys.readouterr().out)
    assert rows["segmentation"][:4] == ["DenseCategorical", "8", "2", "4"]
    assert "13 classes: fewest bed (0.0%), most " in rows["segmentation"][4]
    assert f"{2 / mtan_files.HEIGHT:.1%} missing" in rows["segmentation"][4]
    assert rows["depth"][4].endswith(f"m, {2 / mtan_files.HEIGHT:.1%} missing")
    assert rows["normal"][4] == f"{2 / mtan_files.WIDTH:.1%} missing"
    sheet = Image.open(tmp_path / "runs/rooms/data.png")
    assert sheet.width == 12 + 8 * (160 + 12)  # two rows of four pictures beside each other
    assert sheet.height > 3 * 120


def test_pixels_are_counted_over_all_rows() -> None:
    labels = [torch.tensor([[0, 1], [1, -1]]), torch.tensor([[-1, -1, -1, 1]])]
    assert KINDS.summary(labels) == "sky 25.0%, road 75.0%, car 0.0%, 50.0% missing"
    depths = [torch.tensor([[1.0, torch.nan]]), torch.tensor([[3.0, 3.0], [torch.nan, 1.0]])]
    assert DEPTH.summary(depths) == "mean 2, std 1 m, 33.3% missing"
    assert NORMAL.summary([torch.eye(3)[:, None]]) == "0.0% missing"
    assert NORMAL.summary([]) == "no row can be read"


def test_labels_in_words() -> None:
    assert KINDS.describe(torch.tensor([[0, 1], [1, -1]])) == "2 classes, 25% missing"
    assert DEPTH.describe(torch.tensor([[0.5, 2.0]])) == "0.5 to 2 m"
    assert DEPTH.describe(torch.full((2, 2), torch.nan)) == "100% missing"
    assert NORMAL.describe(torch.zeros(3, 1, 1)) == "100% missing"


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def colours(target: Target, label: Tensor) -> np.ndarray:
    """A map's colours, [H, W, 3]."""
    picture = target.picture(label)
    assert picture is not None
    assert (picture.dtype, picture.shape) == (torch.uint8, (3, *label.shape[-2:]))
    return picture.movedim(0, -1).numpy().astype(int)


def test_labels_in_colours() -> None:
    kinds = colours(KINDS, torch.tensor([[0, 1, 2, 1, -1]]))[0]
    assert len({tuple(colour) for colour in kinds}) == 4
    assert tuple(kinds[1]) == tuple(kinds[3])
    assert tuple(kinds[4]) == (64, 64, 64) or tuple(kinds[4]) == (63, 63, 63)
    depth = colours(DEPTH, torch.tensor([[1.0, 2.0, 3.0, 5.0, torch.nan]]))[0]
    brightness = depth.sum(axis=1)
    assert (np.diff(brightness[:4]) > 0).all()
    assert set(depth[4]) == set(kinds[4])
    ways = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])[:, None]
    normal = colours(NORMAL, ways)[0]
    assert np.abs(normal[0] - [255, 127, 127]).max() <= 1
    assert np.abs(normal[1] - [127, 0, 127]).max() <= 1
    assert set(normal[3]) == set(kinds[4])
    flat = colours(DEPTH, torch.full((2, 2), torch.nan))
    assert len(np.unique(flat)) == 1


def test_maps_stand_at_the_right_of_their_image() -> None:
    """Two rows: the first has a map of classes, the second has none."""
    targets = {"kind": KINDS, "weather": Categorical(("dry", "wet"))}
    batch = MultiTaskBatch(
        torch.zeros(2, 3, 40, 40),
        {"kind": torch.ones(1, 40, 40, dtype=torch.int64), "weather": torch.tensor([0, 1])},
        {"kind": torch.tensor([0]), "weather": torch.tensor([0, 1])},
        {"kind": 1, "weather": 2},
        torch.arange(2),
    )
    labels = [labels_of(batch, row, targets) for row in range(2)]
    assert labels == [[("weather", "dry")], [("weather", "wet")]]
    tiles = [maps_of_row(batch, row, targets) for row in range(2)]
    assert [line for ((_, line),) in tiles] == [("kind", "1 classes"), ("kind", "–")]
    sheet = pixels(contact_sheet(batch.inputs, labels, "", tiles))
    colour = colours(KINDS, torch.ones(1, 1, dtype=torch.int64))[0, 0]
    of_colour = (sheet == colour).all(axis=2)
    assert of_colour.sum() == 160 * 160
    columns = of_colour.any(axis=0).nonzero()[0]
    assert (columns[0], columns[-1]) == (12 + 160 + 12, 12 + 160 + 12 + 159)
