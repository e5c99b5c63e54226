"""Published benchmarks with few images, in the layouts of their releases."""

import gzip
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
from fashion import installed
from PIL import Image

# A few of CelebA's forty names, as its header has them: divided by blanks, and one at the end.
ATTRIBUTES = ("5_o_Clock_Shadow", "Bald", "Eyeglasses", "Male", "Smiling", "Young")


class PickledByPython2(pickle._Pickler):
    """Writes as Python 2 did: protocol 2, text and bytes both as its `str`."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str | bytes) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        short = len(raw) < 256
        self.write(b"U" + bytes([len(raw)]) if short else b"T" + len(raw).to_bytes(4, "little"))
        self.write(raw)

    dispatch[str] = dispatch[bytes] = save_str


def pickled(path: Path, content: object) -> None:
    with path.open("wb") as file:
        PickledByPython2(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def cifar_content(rows: int, seed: int = 0) -> dict:
    """`rows` images of each class, shuffled; a superclass has the fine classes s, s + 20, ..., s + 80."""
    rng = np.random.default_rng(seed)
    fine = rng.permutation(np.repeat(np.arange(100), rows))
    return {
        "filenames": [f"picture_s_{row:06}.png" for row in range(len(fine))],
        "batch_label": "training batch 1 of 1",
        "fine_labels": fine.tolist(),
        "coarse_labels": (fine % 20).tolist(),
        "data": rng.integers(256, size=(len(fine), 3072), dtype=np.uint8),
    }


def cifar100(folder: Path, rows: int = 3) -> Path:
    """The python version of CIFAR-100."""
    folder.mkdir(parents=True)
    pickled(folder / "train", cifar_content(rows))
    pickled(folder / "test", cifar_content(1, seed=1))
    names = {
        "fine_label_names": [f"fine_{number:02}" for number in range(100)],
        "coarse_label_names": [f"large_man-made_{number:02}" for number in range(20)],
    }
    pickled(folder / "meta", names)
    return folder


def celeba_labels(rows: int) -> np.ndarray:
    """[rows, attributes] of -1 and 1; all combinations of two rows that follow differ."""
    return np.random.default_rng(7).choice([-1, 1], size=(rows, len(ATTRIBUTES)))


def celeba(folder: Path, train: int = 16, rest: int = 6) -> Path:
    """CelebA's aligned images, attributes and partition; `rest` images each for validation and test."""
    rows = train + 2 * rest
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{row + 1:06}.jpg" for row in range(rows)]
    lines = [str(rows), " ".join(ATTRIBUTES) + " "]
    for name, values in zip(names, celeba_labels(rows), strict=True):
        Image.new("RGB", (178, 218), (40 + 60 * (values[4] > 0), 90, 9)).save(images / name)
        lines.append(f"{name} " + " ".join(f"{value:2}" for value in values))
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    parts = [0] * train + [1] * rest + [2] * rest
    partition = "".join(f"{name} {part}\n" for name, part in zip(names, parts, strict=True))
    (folder / "list_eval_partition.txt").write_text(partition)
    return folder


def office(folder: Path, domain: str, inner: str = "", classes: int = 3) -> Path:
    """A domain of an Office data set under `folder/images`, and LibMTL's lists of it under `folder/lists`.

    The classes are not numbered by the alphabet, as in LibMTL's lists.
    """
    lists = folder / "lists"
    lists.mkdir(parents=True, exist_ok=True)
    for split, rows in {"train": 4, "val": 2, "test": 2}.items():
        lines = []
        for number in range(classes):
            inside = f"{domain}/{inner}class_{9 - number}"
            (folder / "images" / inside).mkdir(parents=True, exist_ok=True)
            for row in range(rows):
                image = f"{inside}/{split}_{row:04}.jpg"
                Image.new("RGB", (60 + row, 50), (80 * number, 90, 9)).save(folder / "images" / image)
                lines.append(f"{image} {number}\n")
        (lists / f"{domain}_{split}.txt").write_text("".join(lines))
    return folder


def few_fashion(folder: Path, train: int, test: int) -> Path:
    """The first images of the real files of Fashion-MNIST, in files of their own."""
    folder.mkdir(parents=True)
    for part, rows in {"train": train, "t10k": test}.items():
        for name, header, size in ((f"{part}-images-idx3", 16, 784), (f"{part}-labels-idx1", 8, 1)):
            content = gzip.decompress((installed() / f"{name}-ubyte.gz").read_bytes())
            whole = content[:4] + rows.to_bytes(4, "big") + content[8 : header + rows * size]
            (folder / f"{name}-ubyte").write_bytes(whole)
    return folder
