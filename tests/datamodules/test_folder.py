"""Folders of real image files, a subfolder a class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from datamodules.sources import SPLITS, Folder
from datamodules.targets import Categorical


def fill(folder: Path, classes: dict[str, int], ending: str = "jpg") -> Path:
    """So many images of each class, each of one grey."""
    for name, images in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            grey = np.full((8, 9, 3), 10 * number % 250, dtype=np.uint8)
            Image.fromarray(grey).save(folder / name / f"{number:03}.{ending}")
    return folder


def files(source: Folder, split: str) -> list[str]:
    part = source.split(split)
    return [part.key(row) for row in range(len(part))]


def test_fractions_of_every_class(tmp_path: Path) -> None:
    source = Folder(str(fill(tmp_path / "pets", {"dog": 40, "cat": 20, "Ant eater": 20})), fractions=(0.5, 0.25, 0.25))
    assert source.targets == {"pets": Categorical(("Ant eater", "cat", "dog"))}
    for name, counts in {"train": [10, 10, 20], "val": [5, 5, 10], "test": [5, 5, 10]}.items():
        split = source.split(name)
        split.check(source.targets)
        assert split.labels("pets").bincount().tolist() == counts
        assert not split.missing()
        for row in range(len(split)):
            image, labels = split[row]
            folder, file = split.name(row).split("/")
            assert source.targets["pets"].classes[labels["pets"]] == folder
            assert abs(np.asarray(image).mean() - 10 * int(file[:3]) % 250) < 2
            assert (image.mode, image.size) == ("RGB", (9, 8))
    everything = [file for name in SPLITS for file in files(source, name)]
    assert len(everything) == len(set(everything)) == 80


def test_split_is_the_seeds_alone(tmp_path: Path) -> None:
    path = str(fill(tmp_path, {"a": 20, "b": 20}))
    np.random.seed(1)
    assert files(Folder(path, "t"), "train") == files(Folder(path, "t"), "train")
    assert files(Folder(path, "t"), "train") != files(Folder(path, "t", seed=1), "train")


def test_folders_of_splits(tmp_path: Path) -> None:
    for name, classes in {"train": {"a": 2, "b": 3}, "val": {"b": 1}, "test": {"a": 1, "b": 2}}.items():
        fill(tmp_path / name, classes, ending="PNG")
    source = Folder(str(tmp_path), task="kind", mode="L")
    assert files(source, "train") == [f"train/{name}.PNG" for name in ("a/000", "a/001", "b/000", "b/001", "b/002")]
    assert files(source, "val") == ["val/b/000.PNG"]
    assert source.split("val").labels("kind").tolist() == [1]
    assert source.split("test").labels("kind").tolist() == [0, 1, 1]
    assert source.split("test")[0][0].mode == "L"


@pytest.mark.parametrize(("absent", "rows"), [("val", [40, 10, 3]), ("test", [40, 3, 10])])
def test_absent_split_is_cut_from_training(tmp_path: Path, absent: str, rows: list[int]) -> None:
    fill(tmp_path / "train", {"a": 25, "b": 25})
    fill(tmp_path / ({"val", "test"} - {absent}).pop(), {"a": 1, "b": 2})
    source = Folder(str(tmp_path), task="kind", fractions=(0.4, 0.1, 0.5) if absent == "val" else (0.4, 0.5, 0.1))
    assert [len(source.split(name)) for name in SPLITS] == rows
    assert source.split(absent).labels("kind").bincount().tolist() == [5, 5]
    assert all(file.startswith("train/") for file in files(source, absent))
    assert not set(files(source, absent)) & set(files(source, "train"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = Folder(str(fill(tmp_path / "vehicles", {"bus": 10, "train": 10})))
    assert source.targets["vehicles"].classes == ("bus", "train")


def test_images_at_any_depth_and_other_files_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "a", {"one": 5, "two": 5})
    fill(tmp_path, {"b": 10})
    (tmp_path / "a/readme.txt").write_text("not an image")
    source = Folder(str(tmp_path), task="kind")
    found = sorted(file for name in SPLITS for file in files(source, name))
    assert found[:10] == [f"a/{inner}/{number:03}.jpg" for inner in ("one", "two") for number in range(5)]
    assert len(found) == 20


def test_several_folders_are_several_tasks(tmp_path: Path) -> None:
    sources = {
        name: Folder(str(fill(tmp_path / name, classes)))
        for name, classes in {"x": {"a": 9, "b": 9}, "y": {"a": 9, "c": 9}}.items()
    }
    data = MultiTaskDataModule(sources, Shared(batch_size=4))
    assert {task: target.classes for task, target in data.targets.items()} == {"x": ("a", "b"), "y": ("a", "c")}
    assert data.input_shape == (3, 8, 9)
    assert data.datasets["train"].labelled.sum(dim=1).tolist() == [12, 12]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path: the folder must be there, found none at .*nowhere$"):
        Folder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("inner", ["", "train"])
def test_no_classes(tmp_path: Path, inner: str) -> None:
    fill(tmp_path / inner, {"": 3} if inner else {}) if inner else None
    with pytest.raises(ValueError, match=rf"{inner}: must have a folder for each class, found none$"):
        Folder(str(tmp_path))


def test_one_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r": must have folders of at least two classes, found \['cat'\]$"):
        Folder(str(fill(tmp_path, {"cat": 4})))


def test_empty_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dog: a class must have an image \(\.jpg, .*, found none$"):
        Folder(str(fill(tmp_path, {"cat": 4, "dog": 0})))


def test_class_that_training_lacks(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / "test", {"a": 3, "c": 3})
    with pytest.raises(ValueError, match=r"test: classes must be among those of .*train, found \['c'\]$"):
        Folder(str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Val", "Test"),
        ("Training", "valid", "Testing"),
        ("training", "validation", "TEST"),
        ("TRAIN", "Validation", "testing"),
    ],
)
def test_other_names_of_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, images in zip(names, (2, 1, 3), strict=True):
        fill(tmp_path / name, {"a": images, "b": 1})
    source = Folder(str(tmp_path), task="kind")
    assert source.targets["kind"].classes == ("a", "b")
    for split, name, images in zip(SPLITS, names, (2, 1, 3), strict=True):
        expected = [f"{name}/a/{number:03}.jpg" for number in range(images)]
        assert files(source, split) == [*expected, f"{name}/b/000.jpg"]


def test_folder_that_is_no_split(tmp_path: Path) -> None:
    fill(tmp_path / "Train", {"a": 3, "b": 3})
    fill(tmp_path / "extra", {"a": 3, "b": 3})
    with pytest.raises(ValueError, match=r"folders beside Train must be val and test, found \['extra'\]$"):
        Folder(str(tmp_path))


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        fill(tmp_path / name, {"a": 3, "b": 3})
    with pytest.raises(ValueError, match=r"each split must have one folder, found \['train', 'val', 'valid'\]$"):
        Folder(str(tmp_path))


def test_splits_of_unknown_names_are_no_classes(tmp_path: Path) -> None:
    for name in ("learn", "exam"):
        fill(tmp_path / name, {"a": 3, "b": 3})
        (tmp_path / name / ".DS_Store").touch()
    with pytest.raises(
        ValueError, match=r"must be classes .*found \['exam', 'learn'\], each with the folders \['a', 'b'\] alone$"
    ):
        Folder(str(tmp_path))


def test_images_of_every_class_in_a_folder_of_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name, {"images": 10})
    assert Folder(str(tmp_path), task="kind").targets["kind"].classes == ("a", "b")


def test_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    for name in ("train", "test"):
        fill(tmp_path / name, {"a": 2, "b": 2, ".ipynb_checkpoints": 1, "a/.ipynb_checkpoints": 1})
        (tmp_path / name / "b/._000.jpg").write_bytes(b"of another computer")
    fill(tmp_path / ".cache", {"c": 1})
    source = Folder(str(tmp_path), task="kind", fractions=(0.5, 0.5, 0))
    assert source.targets["kind"].classes == ("a", "b")
    found = sorted(file for name in SPLITS for file in files(source, name))
    assert found == [f"{name}/{kind}/00{n}.jpg" for name in ("test", "train") for kind in "ab" for n in range(2)]


@pytest.mark.parametrize("name", ["my pets", "v1.0"])
def test_folder_whose_name_cannot_name_a_task(tmp_path: Path, name: str) -> None:
    path = str(fill(tmp_path / name, {"a": 10, "b": 10}))
    with pytest.raises(ValueError, match=rf"^task: must be of .*given where the folder's name is not, found '{name}'$"):
        Folder(path)
    assert list(Folder(path, task="pets").targets) == ["pets"]


@pytest.mark.parametrize(
    ("fractions", "rule"),
    [
        ((0.8, 0.1, 0.2), r"be positive and add up to 1, found \[0\.8, 0\.1, 0\.2\]$"),
        ((1.0, 0.1, -0.1), r"be positive and add up to 1, found \[1\.0, 0\.1, -0\.1\]$"),
        ((0.98, 0.01, 0.01), r"give each split a row, found \[0\.98, 0\.01, 0\.01\] of 20 rows$"),
    ],
)
def test_fractions_that_do_not_do(tmp_path: Path, fractions: tuple[float, float, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rf"^`fractions` must {rule}"):
        Folder(str(fill(tmp_path, {"a": 10, "b": 10})), fractions=fractions)
