"""Images in files of more than 8 bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.reading.reader import Reader
from datamodules.sources import ImageSplit, UnreadableRowError


def write_pixels(root: Path, values: list[float], dtype: str, file: str, mode: str = "L") -> ImageSplit:
    Image.fromarray(np.array([values], dtype=dtype)).save(root / file)
    return ImageSplit(root, [file], {"number": torch.zeros(1)}, mode=mode)


@pytest.mark.parametrize(
    ("dtype", "file"),
    [
        ("uint16", "deep.png"),
        ("uint16", "deep.tif"),
        (">u2", "deep.tif"),
        ("uint16", "deep.pgm"),
        ("int32", "deep.tif"),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, dtype: str, file: str, mode: str) -> None:
    image = write_pixels(tmp_path, [0, 257, 25700, 40000, 65535], dtype, file, mode).image(0)
    assert image.mode == mode
    assert np.asarray(image.getchannel(0)).tolist() == [[0, 1, 100, 156, 255]]


@pytest.mark.parametrize(
    ("values", "dtype", "found"),
    [
        ([0, 70000], "int32", "int32 from 0 to 70000"),
        ([-1, 5], "int32", "int32 from -1 to 5"),
        ([0, 0.5], "float32", r"float32 from 0\.0 to 0\.5"),
    ],
)
def test_pixels_that_are_not_of_16_bits(tmp_path: Path, values: list[float], dtype: str, found: str) -> None:
    """They can be read, so that skipping unreadable rows does not hide them."""
    split = write_pixels(tmp_path, values, dtype, "deep.tif")
    once = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"^deep\.tif: pixels must be integers of 8 or 16 bits, found {found}$"):
        Reader(skip=True)(split, once, once)


def test_truncated_image_of_16_bits(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 65535, (40, 40), dtype=np.uint16)
    Image.fromarray(noise).save(tmp_path / "4.png")
    path = tmp_path / "4.png"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnreadableRowError, match=r"^4\.png: .* must be a whole image, found: "):
        ImageSplit(tmp_path, ["4.png"], {}).image(0)
