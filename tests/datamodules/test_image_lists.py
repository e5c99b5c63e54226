"""Office-31 and Office-Home with LibMTL's lists, and by folder without them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from layouts import office

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import SPLITS, Folder, ImageLists
from datamodules.targets import Categorical


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return office(tmp_path, "amazon", "images/")


def source(folder: Path, **options: str) -> ImageLists:
    return ImageLists(str(folder / "images"), str(folder / "lists/amazon"), **options)


def test_splits_are_those_of_the_lists_and_classes_their_folders(folder: Path) -> None:
    domain = source(folder)
    assert domain.targets == {"amazon": Categorical(("class_9", "class_8", "class_7"))}
    for name, rows in zip(SPLITS, (4, 2, 2), strict=True):
        split = domain.split(name)
        split.check(domain.targets)
        assert split.key(rows) == f"amazon/images/class_8/{name}_0000.jpg"  # the first one after those of class_9
        assert split.labels("amazon").tolist() == [0] * rows + [1] * rows + [2] * rows
        for row in range(len(split)):
            image, labels = split[row]
            assert abs(image.getpixel((9, 9))[0] - 80 * labels["amazon"]) < 5


def test_name_and_mode_can_be_chosen(folder: Path) -> None:
    domain = source(folder, task="of_shops", mode="L")
    assert list(domain.targets) == ["of_shops"]
    assert domain.split("val")[0][0].mode == "L"
    with pytest.raises(ValueError, match=r"^task: must be of letters, .* found 'Real World'$"):
        ImageLists(str(folder / "images"), str(folder / "lists/Real World"))


def test_paths_may_have_blanks(folder: Path) -> None:
    for path in (folder / "lists").iterdir():
        path.write_text(path.read_text().replace("amazon/images", "Real World"))
    (folder / "images/amazon/images").rename(folder / "images/Real World")
    assert source(folder).split("train")[5][1]["amazon"] == 1


def test_missing_image_is_named(folder: Path) -> None:
    (folder / "images/amazon/images/class_8/val_0001.jpg").unlink()
    with pytest.raises(ValueError, match=r"split 'val', amazon/images/class_8/val_0001\.jpg: the input must be there"):
        MultiTaskDataModule({"amazon": source(folder)})


def edited(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text().replace(old, new)) and None


NO_ROW = "must be an image file and a class index, found "
BROKEN = [
    ("val", Path.unlink, "the list must be there, found none$"),
    ("test", lambda path: path.write_text(""), "must have a row, found none$"),
    ("val", edited("1.jpg 1", "1.jpg 3"), "row 3: a class index must be from 0 to 2, as in amazon_train.txt, found 3$"),
    ("train", edited("g 1", "g 4"), "class indices must have no gap, found 4, but no row of 1$"),
    ("train", edited("8/train_0002.jpg 1", "8/train_0002.jpg -1"), f"row 6: {NO_ROW}"),
    ("train", edited("8/train_0002.jpg 1", "8/train_0002.jpg"), f"row 6: {NO_ROW}"),
    ("test", edited("8/test_0000.jpg 1", "8/test_0000.jpg 2"), "row 2: images of class 2 must be in .*'class_7'"),
    ("test", edited("9/test_0001", "9/train_0001"), "row 1: an image must be listed once, .* in amazon_train.txt too$"),
]


@pytest.mark.parametrize(("split", "spoil", "message"), BROKEN)
def test_broken_list(folder: Path, split: str, spoil: Callable, message: str) -> None:
    spoil(folder / f"lists/amazon_{split}.txt")
    with pytest.raises(ValueError, match=rf"amazon_{split}\.txt: .*{message}") as caught:
        source(folder)
    assert "\n" not in str(caught.value)


def test_without_lists_a_folder_is_divided_by_fractions(folder: Path) -> None:
    domain = Folder(str(folder / "images/amazon/images"), task="amazon", fractions=(0.6, 0.2, 0.2))
    counts = [torch.bincount(domain.split(name).labels("amazon")).tolist() for name in SPLITS]
    assert [sum(count) for count in counts] == [14, 5, 5]  # of 24
    assert all(max(count) - min(count) <= 1 for count in counts)
