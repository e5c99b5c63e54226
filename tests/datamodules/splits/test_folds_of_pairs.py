"""Folds of sources that pair scans: no scan is both in training and in validation."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import Digits, OverlaidMNIST, Source, SplitName
from datamodules.splits.folds import Folds

K = 4


def digits() -> Digits:
    return Digits(train_pairs=1500, val_pairs=300, test_pairs=100)


def overlaid(folder: Path, right: Path | None = None) -> OverlaidMNIST:
    return OverlaidMNIST(str(folder), right=None if right is None else str(right))


def write_idx(folder: Path, seed: int, rows: int = 120) -> Path:
    """Each image is of one brightness of its own, so that it can be told in its corner; its class follows from it."""
    folder.mkdir()
    for part, shades in (("train", np.random.default_rng(seed).permutation(rows)), ("t10k", np.arange(200, 220))):
        images = np.repeat(shades[:, None], 28 * 28, axis=1).reshape(-1, 28, 28).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", (shades % 10).astype(np.uint8))):
            head = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
    return folder


def inputs(source: Source, name: SplitName) -> torch.Tensor:
    split = source.split(name)
    return split.__getitems__(torch.arange(len(split)))[0][:, 0]


def scans_of_digits(source: Source, name: SplitName) -> list[set[bytes]]:
    """The uncovered pixels of the scans at the left and at the right, shifted so that both are of the same ones."""
    canvas = (inputs(source, name) * 16).round().byte()
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[4:, 4:] = mask[:4, :4] = False
    corners = canvas[:, :8, :8], canvas[:, 4:, 4:]
    return [{scan[mask].numpy().tobytes() for scan in corner} for corner in corners]


def scans_of_overlaid(source: Source, name: SplitName) -> list[set[float]]:
    canvas = inputs(source, name)
    return [set(canvas[:, 0, 0].tolist()), set(canvas[:, -3, -3].tolist())]


def folds(source: Source, stratify: str | None = None) -> list[Source]:
    return [source.folded(Folds(K, fold, stratify, seed=3)) for fold in range(K)]


@pytest.mark.parametrize("stratify", [None, "right"])
@pytest.mark.parametrize("kind", ["digits", "overlaid"])
def test_no_scan_of_a_fold_is_in_its_training(tmp_path: Path, kind: str, stratify: str | None) -> None:
    source, scans = (
        (digits(), scans_of_digits) if kind == "digits" else (overlaid(write_idx(tmp_path / "a", 0)), scans_of_overlaid)
    )
    before = set().union(*(each for name in ("train", "val") for each in scans(source, name)))
    held_out = []
    for folded in folds(source, stratify):
        train, val = set().union(*scans(folded, "train")), set().union(*scans(folded, "val"))
        assert train
        assert not train & val
        assert not (train | val) & set().union(*scans(folded, "test"))
        held_out.append(val)
    assert sum(map(len, held_out)) == len(set().union(*held_out)) > 0.9 * len(before)  # each in one fold


def test_two_folders_are_divided_each_by_itself(tmp_path: Path) -> None:
    source = overlaid(write_idx(tmp_path / "a", 0), write_idx(tmp_path / "b", 1, rows=90))
    for folded in folds(source, "left"):
        for train, val in zip(scans_of_overlaid(folded, "train"), scans_of_overlaid(folded, "val"), strict=True):
            assert train
            assert not train & val


@pytest.mark.parametrize("kind", ["digits", "overlaid"])
def test_sizes_labels_and_the_test_are_as_without_folds(tmp_path: Path, kind: str) -> None:
    source = digits() if kind == "digits" else overlaid(write_idx(tmp_path / "a", 0))
    rows = sum(len(source.split(name)) for name in ("train", "val"))
    for folded in folds(source):
        sizes = [len(folded.split(name)) for name in ("train", "val")]
        assert sum(sizes) == rows
        assert sizes[1] == rows // K
        assert torch.equal(inputs(folded, "test"), inputs(source, "test"))
        for name in ("train", "val", "test"):
            folded.split(name).check(folded.targets)
    if kind == "overlaid":
        for task, place in (("left", 0), ("right", -3)):
            shades = inputs(folded, "val")[:, place, place] * 0.3081 + 0.1307
            shown = ((shades * 255).round().long() % 10)[shades * 255 > 0.5]
            assert torch.equal(folded.split("val").labels(task)[shades * 255 > 0.5], shown)


def test_every_fold_has_its_share_of_digits() -> None:
    for folded in folds(digits(), "left"):
        found = folded.split("val").labels("left").bincount(minlength=10)
        assert found.min() > 0.4 * found.float().mean()


def test_folds_of_pairs_follow_from_their_seeds() -> None:
    one, again, other = (inputs(digits().folded(Folds(K, 1, seed=seed)), "val") for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, inputs(Digits(1500, 300, 100, seed=1).folded(Folds(K, 1, seed=0)), "val"))


def test_a_fold_has_two_scans_to_pair() -> None:
    with pytest.raises(
        ValueError, match=r"^data\.sources\.s: data\.folds\.k: must leave two scans to each fold, found"
    ):
        MultiTaskDataModule({"s": digits()}, folds=Folds(1000, 900))
