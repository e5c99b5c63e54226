"""CelebA from a tiny release."""

from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import ATTRIBUTES, celeba, celeba_labels

from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from datamodules.sources import SPLITS, CelebA
from datamodules.targets import Binary

ATTR, PART = "list_attr_celeba.txt", "list_eval_partition.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return celeba(tmp_path / "celeba")


def test_every_attribute_is_a_task_and_the_partition_is_the_official_one(folder: Path) -> None:
    source = CelebA(str(folder))
    assert source.targets == dict.fromkeys(ATTRIBUTES, Binary())
    labels, starts = celeba_labels(28), {"train": 0, "val": 16, "test": 22}
    for name, rows in zip(SPLITS, (16, 6, 6), strict=True):
        split = source.split(name)
        split.check(source.targets)
        assert [split.key(row) for row in range(len(split))] == [
            f"{starts[name] + row + 1:06}.jpg" for row in range(rows)
        ]
        for row in range(rows):
            image, of_row = split[row]
            wanted = labels[starts[name] + row] > 0
            assert [float(of_row[task]) for task in ATTRIBUTES] == wanted.astype(float).tolist()
            assert image.size == (178, 218)
            assert abs(image.getpixel((9, 9))[0] - (100 if wanted[4] else 40)) < 5  # the image of these labels


def test_attributes_can_be_chosen(folder: Path) -> None:
    source = CelebA(str(folder), ["Smiling", "Bald"])
    assert list(source.targets) == ["Smiling", "Bald"]
    assert source.split("test").labels("Bald").tolist() == (celeba_labels(28)[22:, 1] > 0).tolist()
    with pytest.raises(ValueError, match=r"^attributes: must be among 5_o_Clock_Shadow, .*, found 'Tall'$"):
        CelebA(str(folder), ["Tall"])


def test_layouts_of_torchvision_and_of_the_authors(folder: Path) -> None:
    assert len(CelebA(str(folder.parent)).split("train")) == 16
    for name, inside in (
        ("list_attr_celeba.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
        ("img_align_celeba", "Img"),
    ):
        (folder / inside).mkdir()
        (folder / name).rename(folder / inside / name)
    assert CelebA(str(folder)).split("train")[3][0].size == (178, 218)


def test_images_that_cannot_be_read_are_refused_or_skipped(folder: Path) -> None:
    cut = folder / "img_align_celeba/000003.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / "img_align_celeba/000005.jpg").unlink()
    sources = {"faces": CelebA(str(folder), ["Smiling"])}
    with pytest.raises(ValueError, match=r"^data\.sources\.faces: split 'train', 000005\.jpg: the input must be there"):
        MultiTaskDataModule(sources)
    data = MultiTaskDataModule(sources, sampling=Shared(batch_size=16), on_error="skip")
    (batch,) = data.train_dataloader()
    assert batch.inputs.shape == (14, 3, 218, 178)
    assert batch.counts == {"Smiling": 16}
    reasons = " ".join(sorted(batch.skipped))
    assert "000003.jpg must be a whole image" in reasons
    assert "000005.jpg: the file must be there" in reasons


def edited(change: Callable[[list[str]], object]) -> Callable[[Path], None]:
    """Change the lines of a file in place."""

    def write(path: Path) -> None:
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("\n".join(lines) + "\n")

    return write


BROKEN = [
    (ATTR, Path.unlink, rf"^path: {ATTR} must be in the folder, found none in .*celeba$"),
    (PART, Path.unlink, rf"^path: {PART} must be in the folder"),
    (
        "img_align_celeba",
        lambda path: path.rename(path.with_name("x")),
        "^path: img_align_celeba must be in",
    ),
    (ATTR, lambda path: path.write_text(""), rf"{ATTR}: the first line must be the number of rows, 0, found ''$"),
    (ATTR, edited(lambda lines: lines.pop()), rf"{ATTR}: the first line must be the number of rows, 27, found '28'$"),
    (ATTR, edited(lambda lines: lines.pop(0)), rf"{ATTR}: the first line .* found '5_o_Clock_Shadow Bald .*'$"),
    (
        ATTR,
        edited(lambda lines: lines.__setitem__(7, lines[7][:-2])),
        rf"{ATTR}: row 5: must have 6 attributes, found 5$",
    ),
    (
        ATTR,
        edited(lambda lines: lines.__setitem__(4, "000003.jpg 1 0 1 1 1 1")),
        rf"{ATTR}: row 2: an attribute must be -1 or 1, found '0'$",
    ),
    (PART, edited(lambda lines: lines.pop()), rf"{PART}: must have the 28 rows of {ATTR}, found 27$"),
    (
        PART,
        edited(lambda lines: lines.reverse()),
        rf"{PART}: row 0: must be of the image 000001.jpg, as in {ATTR}, found '000028.jpg'$",
    ),
    (
        PART,
        edited(lambda lines: lines.__setitem__(9, "000010.jpg 3")),
        rf"{PART}: row 9: must end with 0, 1 or 2, found '3'$",
    ),
    (PART, edited(lambda lines: lines.__setitem__(9, "000010.jpg")), rf"{PART}: row 9: must end with .*, found ''$"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BROKEN)
def test_broken_release(folder: Path, name: str, spoil: Callable, message: str) -> None:
    spoil(folder / name)
    with pytest.raises(ValueError, match=message) as caught:
        CelebA(str(folder))
    assert "\n" not in str(caught.value)
