"""Images as users have them are read as Pillow itself reads them rightly, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from datamodules.sources import ImageSplit, UnreadableRowError

ORIENTATION = 0x0112
rng = np.random.default_rng(0)
RGB = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))


def read(path: Path, mode: str = "RGB") -> np.ndarray:
    return np.asarray(ImageSplit(path.parent, [path.name], {}, mode=mode).image(0))  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_lies_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    RGB.save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read(tmp_path / "x.png"), upright)
    assert (upright.shape[:2] == (9, 6)) == (orientation > 4)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "RGB with a transparent colour", "PA"])
def test_what_is_transparent_is_white(tmp_path: Path, kind: str) -> None:
    alpha = Image.fromarray(np.tile(np.array([[0], [128], [255]], np.uint8), (2, 9)))
    path, options = tmp_path / "x.png", {}
    if kind == "RGBA" or kind == "PA":
        image = RGB.copy()
        image.putalpha(alpha)
    elif kind == "LA":
        image = RGB.convert("L")
        image.putalpha(alpha)
    elif kind == "P":
        image, options = RGB.quantize(8), {"transparency": 3}
    else:
        image, options = RGB, {"transparency": RGB.getpixel((0, 0))}
    if kind == "PA":
        path = tmp_path / "x.webp"
        options = {"lossless": True, "exact": True}
    image.save(path, **options)
    with Image.open(path) as opened:
        rgba = np.asarray(opened.convert("RGBA")).astype(float)
    share = rgba[..., 3:] / 255
    expected = rgba[..., :3] * share + 255 * (1 - share)
    assert np.abs(read(path) - expected).max() <= 1
    assert (share < 1).any()


def test_other_modes_and_animations(tmp_path: Path) -> None:
    RGB.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    with Image.open(tmp_path / "cmyk.jpg") as image:
        assert np.array_equal(read(tmp_path / "cmyk.jpg"), np.asarray(image.convert("RGB")))
    RGB.convert("1").save(tmp_path / "bits.png")
    assert {*np.unique(read(tmp_path / "bits.png", "L"))} == {0, 255}
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read(tmp_path / "moving.gif"), np.asarray(frames[0]))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", None], ids=["0 bytes", "a beginning", "half"])
def test_what_is_broken_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    RGB.save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UnreadableRowError, match=r"^x\.png: .*x\.png must be a whole image, found: "):
        read(tmp_path / "x.png")
