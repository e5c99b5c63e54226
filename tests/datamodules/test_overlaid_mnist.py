"""Multi-MNIST from IDX files: tiny ones, and the real files of Debian's dataset-fashion-mnist."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from fashion import installed
from PIL import Image

from datamodules.sources import SPLITS, OverlaidMNIST
from datamodules.sources.overlaid_mnist import overlaid


@pytest.fixture
def fashion() -> str:
    return str(installed())


def idx(array: np.ndarray) -> bytes:
    """The on-disk format of an array of bytes."""
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def pictures(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and labels that its first pixel tells."""
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(rows, 28, 28))
    return images, images[:, 0, 0] % 10


def write(folder: Path, seed: int = 0, zipped: bool = False, train: int = 24, test: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (part, rows) in enumerate((("train", train), ("t10k", test))):
        images, labels = pictures(seed + number, rows)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            path = folder / f"{name}.gz" if zipped else folder / name
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return folder


def expected(left: np.ndarray, right: np.ndarray) -> torch.Tensor:
    """One pair as the published loaders make it, with PIL."""
    canvas = np.zeros((36, 36), dtype=np.uint8)
    canvas[0:28, 0:28] = left
    canvas[6:34, 6:34] = np.maximum(canvas[6:34, 6:34], right)
    resized = np.asarray(Image.fromarray(canvas).resize((28, 28), Image.Resampling.NEAREST))
    return (torch.from_numpy(resized.astype(np.float32))[None] / 255 - 0.1307) / 0.3081


def test_pair_is_as_published() -> None:
    left, right = pictures(1, 6)[0].astype(np.uint8), pictures(2, 6)[0].astype(np.uint8)
    made = overlaid(torch.from_numpy(left), torch.from_numpy(right))
    assert made.shape == (6, 1, 28, 28)
    torch.testing.assert_close(made, torch.stack([expected(a, b) for a, b in zip(left, right, strict=True)]))


@pytest.mark.parametrize("zipped", [False, True])
def test_every_row_is_one_left_image_and_some_right_one_of_the_same_split(tmp_path: Path, zipped: bool) -> None:
    source = OverlaidMNIST(str(write(tmp_path / "a", 0, zipped)), str(write(tmp_path / "b", 50, not zipped)))
    (left, left_labels), (right, right_labels) = pictures(0, 24), pictures(50, 24)
    test, test_right = pictures(1, 5), pictures(51, 5)
    parts = {
        "train": (left[:20], left_labels[:20], right[:20], right_labels[:20]),
        "val": (left[20:], left_labels[20:], right[20:], right_labels[20:]),
        "test": (*test, *test_right),
    }
    for name, (images, labels, others, other_labels) in parts.items():
        split = source.split(name)
        split.check(source.targets)
        assert split.labels("left").tolist() == labels.tolist()
        drawn = []
        for row, image in enumerate(images):
            pairs = torch.stack([expected(image, other) for other in others.astype(np.uint8)])
            drawn.append(int((pairs - split.inputs[row]).abs().sum((1, 2, 3)).argmin()))
            torch.testing.assert_close(split.inputs[row], pairs[drawn[-1]])
        assert split.labels("right").tolist() == other_labels[drawn].tolist()
        assert len(set(drawn)) > 1


def test_pairs_hang_on_the_seed_alone(tmp_path: Path) -> None:
    folder = str(write(tmp_path))
    np.random.seed(3)
    one, two, other = OverlaidMNIST(folder), OverlaidMNIST(folder, folder), OverlaidMNIST(folder, seed=1)
    for name in SPLITS:
        assert torch.equal(one.split(name).inputs, two.split(name).inputs)
        assert not torch.equal(one.split(name).inputs, other.split(name).inputs)


@pytest.mark.parametrize("inner", ["MNIST/raw", "FashionMNIST/raw"])
def test_layout_of_torchvision(tmp_path: Path, inner: str) -> None:
    write(tmp_path / inner)
    assert len(OverlaidMNIST(str(tmp_path), download=True).split("train")) == 20  # there is nothing to download


def test_class_names(tmp_path: Path) -> None:
    folder, names = str(write(tmp_path)), tuple("abcdefghij")
    assert OverlaidMNIST(folder).targets["right"].classes == tuple("0123456789")
    assert OverlaidMNIST(folder, left_classes=names).targets["right"].classes == names
    targets = OverlaidMNIST(folder, right_classes=names).targets
    assert (targets["left"].classes, targets["right"].classes) == (tuple("0123456789"), names)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BROKEN = [
    (IMAGES, idx(pictures(0, 24)[0])[:-1], r"24×28×28 numbers must follow the header, found 18815$"),
    (IMAGES, idx(pictures(0, 24)[0]) + b"0", r"24×28×28 numbers must follow the header, found 18817$"),
    (IMAGES, idx(pictures(0, 24)[0])[:10], r"the header must have 16 bytes, found 10$"),
    (IMAGES, idx(pictures(0, 24)[1]), r"must begin with the bytes 00 00 08 03, found 00 00 08 01$"),
    (LABELS, b"", r"must begin with the bytes 00 00 08 01, found $"),
    (LABELS, idx(np.zeros(23)), rf"a label for each of the 24 images of {IMAGES}, found 23$"),
    (IMAGES, idx(np.zeros((24, 28, 27))), r"images must have 28×28 pixels, found 28×27$"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_broken_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (write(tmp_path) / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
        OverlaidMNIST(str(tmp_path))


@pytest.mark.parametrize(
    "content", [gzip.compress(idx(np.zeros(24)))[:-9], idx(np.zeros(24))], ids=["cut off", "not packed"]
)
def test_broken_gzip_file(tmp_path: Path, content: bytes) -> None:
    (write(tmp_path, zipped=True) / f"{LABELS}.gz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{LABELS}\.gz: must be a whole gzip file, found: ."):
        OverlaidMNIST(str(tmp_path))


def test_missing_file(tmp_path: Path) -> None:
    (write(tmp_path / "b") / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"^right: .*t10k-labels-idx1-ubyte\.gz, found none in .*b$"):
        OverlaidMNIST(str(write(tmp_path / "a")), str(tmp_path / "b"))


def test_download_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"^left: download must reach a server of MNIST, found: .") as caught:
        OverlaidMNIST(str(tmp_path), download=True)
    assert "\n" not in str(caught.value)


def test_real_files(fashion: str) -> None:
    source = OverlaidMNIST(fashion)
    assert [len(source.split(name)) for name in SPLITS] == [50_000, 10_000, 10_000]
    test = source.split("test")
    assert torch.bincount(test.labels("left")).tolist() == [1000] * 10  # Fashion-MNIST's test has 1,000 of each class
    assert torch.bincount(test.labels("right"), minlength=10).min() > 850
    assert test.inputs.shape == (10_000, 1, 28, 28)


@pytest.mark.slow
def test_shipped_config_learns(fashion: str, train_here, tmp_path: Path) -> None:
    config = ROOT / "configs/multi_fashion.yaml"
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    chosen = ["--data.sources.pairs.init_args.left", fashion, "--trainer.max_epochs", "3"]
    train_here("fit", "--config", str(config), *quiet, *chosen)
    results = json.loads((tmp_path / "runs/multi_fashion/version_0/results.json").read_text())
    accuracies = [task["accuracy"] for task in results["tasks"].values()]
    assert sum(accuracies) / 2 >= 0.75  # validation has 0.786 after 3 epochs, 0.825 after the configuration's 10
