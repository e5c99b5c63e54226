"""The real files of Fashion-MNIST, as Debian's package dataset-fashion-mnist installs them."""

import gzip
import os
from pathlib import Path

FOLDER = Path(os.environ.get("POLYHEAD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def installed() -> Path:
    """Their folder."""
    assert FOLDER.is_dir(), (
        "the tests need Debian's package dataset-fashion-mnist, or the folder of its files in POLYHEAD_FASHION_MNIST; "
        f"found none at {FOLDER}"
    )
    return FOLDER


def unpack(root: Path) -> None:
    """Write them under `root` as torchvision does after a download."""
    raw = root / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for path in installed().glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
