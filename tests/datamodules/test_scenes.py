"""NYUv2 and Cityscapes, from files in MTAN's layout."""

from collections.abc import Callable
from pathlib import Path

import mtan_files
import numpy as np
import pytest
import torch
from mtan_files import FLOOR, HEIGHT, WALL, WIDTH

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import SPLITS, Cityscapes, NYUv2, UnreadableRowError
from datamodules.splits.folds import Folds


@pytest.fixture
def nyuv2(tmp_path: Path) -> Path:
    return mtan_files.write_nyuv2(tmp_path / "nyuv2")


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    return mtan_files.write_cityscapes(tmp_path / "cityscapes")


def test_rows_are_those_of_the_files(nyuv2: Path) -> None:
    split = NYUv2(str(nyuv2)).split("test")
    assert len(split) == 4
    for row in range(4):
        arrays = {name: np.load(nyuv2 / "val" / name / f"{row}.npy") for name in ("image", "label", "depth", "normal")}
        image, labels = split[row]
        assert image.dtype == torch.float32
        assert np.array_equal(image.numpy(), arrays["image"].transpose(2, 0, 1))
        assert labels["segmentation"].dtype == torch.int64
        assert np.array_equal(labels["segmentation"].numpy(), arrays["label"])
        assert labels["depth"].shape == (HEIGHT, WIDTH)
        assert np.array_equal(labels["depth"].nan_to_num(0).numpy(), arrays["depth"][..., 0])
        assert torch.equal(labels["depth"].isnan(), torch.from_numpy(arrays["depth"][..., 0] == 0))
        assert labels["normal"].shape == (3, HEIGHT, WIDTH)
        assert np.allclose(labels["normal"].numpy(), arrays["normal"].transpose(2, 0, 1), atol=1e-6)
        assert set(labels["segmentation"].flatten().tolist()) == {-1, FLOOR, WALL}


def test_classes_have_their_published_names(nyuv2: Path, cityscapes: Path) -> None:
    classes = NYUv2(str(nyuv2)).targets["segmentation"].classes
    assert (len(classes), classes[FLOOR], classes[WALL]) == (13, "floor", "wall")
    seven, nineteen = (Cityscapes(str(cityscapes), classes=number) for number in (7, 19))
    assert (seven.targets["segmentation"].outputs, nineteen.targets["segmentation"].outputs) == (7, 19)
    (_, coarse), (_, fine) = seven.split("test")[0], nineteen.split("test")[0]
    assert set(coarse["segmentation"].flatten().tolist()) == {-1, 0, 6}
    assert set(fine["segmentation"].flatten().tolist()) == {-1, 0, 18}
    assert set(coarse) == {"segmentation", "depth"}


def test_labels_of_seven_classes_may_lie_in_label(cityscapes: Path) -> None:
    for part in ("train", "val"):
        (cityscapes / part / "label_7").rename(cityscapes / part / "label")
    assert set(Cityscapes(str(cityscapes)).split("test")[0][1]["segmentation"].flatten().tolist()) == {-1, 0, 6}


def test_tasks_are_chosen_and_other_folders_not_needed(nyuv2: Path) -> None:
    for part in ("train", "val"):
        for file in (nyuv2 / part / "depth").iterdir():
            file.unlink()
        (nyuv2 / part / "depth").rmdir()
    source = NYUv2(str(nyuv2), tasks=["normal", "segmentation"])
    assert list(source.targets) == list(source.split("train")[0][1]) == ["normal", "segmentation"]
    with pytest.raises(ValueError, match=r"train: must have the folder depth, found none"):
        NYUv2(str(nyuv2))


def test_validation_is_a_seeded_part_of_training(nyuv2: Path) -> None:
    def keys(seed: int, fraction: float = 0.3) -> dict[str, list[str]]:
        source = NYUv2(str(nyuv2), val_fraction=fraction, seed=seed)
        return {name: [source.split(name).key(row) for row in range(len(source.split(name)))] for name in SPLITS}

    first = keys(0)
    assert [len(first[name]) for name in SPLITS] == [7, 3, 4]
    assert sorted(first["train"] + first["val"], key=int) == [str(row) for row in range(10)]
    assert first == keys(0)
    assert any(first["val"] != keys(seed)["val"] for seed in (1, 2, 3))
    whole = keys(0, fraction=0)
    assert len(whole["train"]) == 10
    assert whole["val"] == whole["test"] == ["0", "1", "2", "3"]
    assert NYUv2(str(nyuv2), val_fraction=0).split("val").name(0).endswith("val/image/0.npy")


def test_folds_divide_training(nyuv2: Path) -> None:
    source = NYUv2(str(nyuv2))
    held_out = []
    for fold in range(5):
        folded = source.folded(Folds(5, fold))
        assert [len(folded.split(name)) for name in SPLITS] == [8, 2, 4]
        held_out += [folded.split("val").key(row) for row in range(2)]
    assert sorted(held_out, key=int) == [str(row) for row in range(10)]


def test_normals_are_brought_to_length_one(nyuv2: Path) -> None:
    path = nyuv2 / "val" / "normal" / "1.npy"
    given = np.load(path)
    np.save(path, (given * 0.8).astype(np.float16))
    normal = NYUv2(str(nyuv2)).split("test")[1][1]["normal"]
    assert np.allclose(normal.numpy(), given.transpose(2, 0, 1), atol=1e-3)


def edited(path: Path, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)


def put(place: tuple, value: float | list[float]) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[place] = value

    return change


START = {
    "folder": (lambda root: (root / "train/normal").rename(root / "train/normals"), r"train: .*folder normal,"),
    "other file": (lambda root: (root / "val/label/a.npy").touch(), r"val/label: .*0\.npy.* found a\.npy"),
    "depth of another size": (
        lambda root: edited(root / "train/depth/3.npy", lambda a: a[:, :9]),
        r"train/depth/3\.npy: .* of its image, 24×32, found 24×9",
    ),
    "depth without its axis": (
        lambda root: edited(root / "train/depth/3.npy", lambda a: a[..., 0]),
        r"train/depth/3\.npy: .*\(height, width, 1\), found float32 of \(24, 32\)",
    ),
    "a number astray": (
        lambda root: (root / "val/image/3.npy").rename(root / "val/image/200000.npy"),
        r"val/image/200000\.npy: files must be called 0\.npy, .*found 5 numbers",
    ),
    "no pixels": (
        lambda root: edited(root / "val/image/2.npy", lambda a: a[:0]),
        r"val/image/2\.npy: .*found float32 of \(0, 32, 3\)",
    ),
    "channels first": (
        lambda root: edited(root / "val/image/0.npy", lambda a: np.moveaxis(a, -1, 0)),
        r"val/image/0\.npy: .*\(height, width, 3\), found float32 of \(3, 24, 32\)",
    ),
}


@pytest.mark.parametrize("case", START)
def test_refused_at_the_start(nyuv2: Path, case: str) -> None:
    breaking, words = START[case]
    breaking(nyuv2)
    with pytest.raises(ValueError, match=words) as refusal:
        NYUv2(str(nyuv2))
    assert "\n" not in str(refusal.value)


READ = {
    "class beyond": ("label", put((5, 6), 13), r"'segmentation': .* from 0 to 12.* found 13 at pixel \(5, 6\)"),
    "ignored as 255": ("label", put((5, 6), 255), "found 255 at pixel"),
    "all ignored": ("label", put((...,), -1), "but not everywhere, found -1 everywhere"),
    "no index": ("label", lambda a: a + 0.5, "a map of class indices"),
    "negative depth": ("depth", put((5, 6), -2), "'depth': .* at least 0, found -2"),
    "negative depth beside NaN": ("depth", put((5, [6, 7], 0), [np.nan, -2]), "'depth': .* at least 0, found -2"),
    "infinite depth": ("depth", put((5, 6), np.inf), "'depth': .*finite.*inf"),
    "long normal": ("normal", put((5, 6), 127), "'normal': .*length 1.* at pixel"),
    "bytes": ("image", lambda a: a * 255, r"pixels must be in \[0, 1\]"),
    "NaN": ("image", put((5, 6), np.nan), "pixels must be.* found nan to nan"),
}


@pytest.mark.parametrize("case", READ)
def test_refused_when_read(nyuv2: Path, case: str) -> None:
    folder, change, words = READ[case]
    edited(nyuv2 / "val" / folder / "2.npy", change)
    split = NYUv2(str(nyuv2)).split("test")
    split[1]
    with pytest.raises(ValueError, match=rf"{folder}/2\.npy.*{words}") as refusal:
        split[2]
    assert not isinstance(refusal.value, UnreadableRowError)
    assert "\n" not in str(refusal.value)


def missing(root: Path) -> None:
    (root / "train/depth/9.npy").unlink()


def truncated(root: Path) -> None:
    file = root / "train/depth/9.npy"
    file.write_bytes(file.read_bytes()[:500])


def no_array(root: Path) -> None:
    (root / "train/depth/9.npy").write_text("a page that says you must log in")


@pytest.mark.parametrize("breaking", [missing, truncated, no_array])
def test_rows_with_a_broken_file_are_named_or_left_out(nyuv2: Path, breaking: Callable[[Path], None]) -> None:
    breaking(nyuv2)
    folds = Folds(10, next(fold for fold in range(10) if 9 not in held_out(nyuv2, fold)))
    with pytest.raises(ValueError, match=r"train/depth/9\.npy"):
        list(MultiTaskDataModule({"rooms": NYUv2(str(nyuv2))}, folds=folds).train_dataloader())
    kept = MultiTaskDataModule({"rooms": NYUv2(str(nyuv2))}, folds=folds, on_error="skip")
    batches = list(kept.train_dataloader())
    (message,) = [why for batch in batches for why in batch.skipped]
    assert "train/depth/9.npy" in message
    assert sum(len(batch.inputs) for batch in batches) == 8


def held_out(root: Path, fold: int) -> list[int]:
    split = NYUv2(str(root)).folded(Folds(10, fold)).split("val")
    return [int(split.key(row)) for row in range(len(split))]


def test_an_image_too_few_is_missing(nyuv2: Path) -> None:
    (nyuv2 / "val/image/3.npy").unlink()
    with pytest.raises(ValueError, match=r"rooms: split 'test', .*val/image/3\.npy: .* found it missing"):
        MultiTaskDataModule({"rooms": NYUv2(str(nyuv2))})


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_refuses_fractions_and_no_tasks(nyuv2: Path, fraction: float) -> None:
    with pytest.raises(ValueError, match=r"val_fraction: .*found"):
        NYUv2(str(nyuv2), val_fraction=fraction)
    with pytest.raises(ValueError, match=r"tasks: .*found none"):
        NYUv2(str(nyuv2), tasks=[])
