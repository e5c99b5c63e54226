"""Rows of image files become tensors: seeded, named when broken, of one shape."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import DataError
from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.reader import Reader
from datamodules.reading.transforms import TimmTransforms
from datamodules.sampling import Draw, Shared
from datamodules.sources import ImageSplit, Source, Split, SplitName, UnreadableRowError
from datamodules.targets import Continuous

# Random numbers of all three generators: torch's (crop, flip), Python's and NumPy's (policy, erasing).
AUGMENTED = TimmTransforms("test_resnet", input_size=16, auto_augment="rand-m9-mstd0.5", re_prob=0.5)
ROWS = torch.arange(8)
ONCE = torch.zeros(8, dtype=torch.int64)


def write_jpegs(root: Path, rows: int = 8, size: tuple[int, int] = (40, 30)) -> ImageSplit:
    """Photographs of nothing, in files, each labelled with its number."""
    pixels = np.random.default_rng(0).integers(0, 255, (rows, 4, 5, 3), dtype=np.uint8)
    for row, image in enumerate(pixels):
        Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).save(root / f"{row}.jpg")
    return ImageSplit(root, [f"{row}.jpg" for row in range(rows)], {"number": torch.arange(rows).float()})


@pytest.fixture
def split(tmp_path: Path) -> ImageSplit:
    return write_jpegs(tmp_path)


def truncate(split: ImageSplit, row: int) -> None:
    path = split.root / f"{row}.jpg"
    path.write_bytes(path.read_bytes()[:400])


class Jpegs(Source):
    def __init__(self, split: ImageSplit) -> None:
        self.targets, self.only = {"number": Continuous()}, split

    def split(self, name: SplitName) -> ImageSplit:
        return self.only


def test_bytes_are_scaled_to_one(split: ImageSplit) -> None:
    read = Reader()(split, ROWS[3:5], ONCE[3:5])
    expected = np.stack([np.asarray(Image.open(split.root / f"{row}.jpg")) for row in (3, 4)])
    assert read.inputs.shape == (2, 3, 30, 40)
    assert torch.equal(read.inputs, torch.from_numpy(expected).permute(0, 3, 1, 2) / 255)
    assert read.labels["number"].tolist() == [3, 4]


def test_augmentation_follows_from_seed_row_and_visit_alone(split: ImageSplit) -> None:
    reader = Reader(AUGMENTED.of("train", None), seed=5)
    together = reader(split, ROWS, ONCE).inputs
    backwards = reader(split, ROWS.flip(0), ONCE).inputs.flip(0)
    alone = torch.cat([reader(split, ROWS[[row]], ONCE[:1]).inputs for row in (6, 1, 6)])
    assert torch.equal(together, backwards)
    assert torch.equal(together[[6, 1, 6]], alone)
    for other in (reader(split, ROWS, ONCE + 1), Reader(AUGMENTED.of("train", None), seed=6)(split, ROWS, ONCE)):
        assert (other.inputs != together).flatten(1).any(dim=1).all()
    repeated = reader(split, torch.zeros(50, dtype=torch.int64), torch.arange(50)).inputs
    assert len(repeated.flatten(1).unique(dim=0)) == 50


def test_augmentation_is_the_same_with_workers(split: ImageSplit) -> None:
    def epoch(workers: int) -> list[torch.Tensor]:
        data = MultiTaskDataModule({"a": Jpegs(split)}, Shared(3), transform=AUGMENTED, num_workers=workers, seed=1)
        return [batch.inputs for batch in data.train_dataloader()]

    torch.manual_seed(1)
    here = epoch(0)
    torch.manual_seed(2)
    for x, y in zip(here, epoch(2), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("broken", [False, True])
def test_global_generators_are_left_alone(split: ImageSplit, broken: bool) -> None:
    reader = Reader(AUGMENTED.of("train", None))
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    if broken:
        truncate(split, 4)
        with pytest.raises(UnreadableRowError):
            reader(split, ROWS, ONCE)
    else:
        reader(split, ROWS, ONCE)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


@pytest.mark.parametrize("how", ["truncated", "no image", "missing"])
def test_broken_row_stops_with_its_file(split: ImageSplit, how: str) -> None:
    if how == "truncated":
        truncate(split, 4)
    elif how == "no image":
        (split.root / "4.jpg").write_text("hello")
    else:
        (split.root / "4.jpg").unlink()
    with pytest.raises(UnreadableRowError, match=r"4\.jpg.*found"):
        Reader()(split, ROWS, ONCE)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_fields_on_the_way_out_of_a_worker(split: ImageSplit, workers: int) -> None:
    data = MultiTaskDataModule({"a": Jpegs(split)}, Shared(3), num_workers=workers)
    truncate(split, 4)
    with pytest.raises(UnreadableRowError) as raised:
        list(data.train_dataloader())
    assert raised.value.where == "4.jpg"
    assert str(raised.value).startswith(f"4.jpg: {split.root / '4.jpg'} must be a whole image, found: ")
    assert "Traceback" not in str(raised.value)
    assert ["in image" in note for note in getattr(raised.value, "__notes__", [])] == [True] * (workers > 0)


def test_the_batches_before_an_error_come_first(split: ImageSplit) -> None:
    data = MultiTaskDataModule({"a": Jpegs(split)}, Shared(3), num_workers=1)
    order = [batch.ids.tolist() for batch in data.train_dataloader()]
    truncate(split, order[1][0])
    batches = iter(data.train_dataloader())
    assert next(batches).ids.tolist() == order[0]
    with pytest.raises(UnreadableRowError):
        next(batches)


def test_broken_rows_are_skipped_and_named(split: ImageSplit) -> None:
    truncate(split, 2)
    (split.root / "5.jpg").unlink()
    read = Reader(skip=True)(split, ROWS.flip(0), ONCE)
    assert read.labels["number"].tolist() == [7, 6, 4, 3, 1, 0]
    assert read.inputs.shape == (6, 3, 30, 40)
    assert ROWS.flip(0)[read.kept].tolist() == [7, 6, 4, 3, 1, 0]
    assert ["5.jpg" in read.skipped[0], "2.jpg" in read.skipped[1], len(read.skipped)] == [True, True, 2]


def test_batch_without_a_readable_row_is_empty(split: ImageSplit) -> None:
    for row in range(8):
        truncate(split, row)
    dataset = MultiTaskDataset({"jpegs": split}, ["number"], Reader(skip=True))
    batch = dataset[Draw(ROWS.numpy(), ONCE.numpy(), np.ones((1, 8), dtype=np.bool_), [8])]
    assert (len(batch.ids), len(batch.inputs), batch.rows, batch.counts) == (0, 0, {}, {"number": 8})
    assert len(batch.skipped) == 8


def test_rows_of_two_sources_are_augmented_differently(split: ImageSplit) -> None:
    reader = Reader(AUGMENTED.of("train", None))
    assert not torch.equal(reader(split, ROWS, ONCE, 0).inputs, reader(split, ROWS, ONCE, 1).inputs)


def test_inputs_of_other_shape_are_named(split: ImageSplit) -> None:
    Image.new("RGB", (40, 31)).save(split.root / "3.jpg")
    with pytest.raises(ValueError, match=r"3\.jpg: .*\(3, 30, 40\) as 0\.jpg, found \(3, 31, 40\).*data\.transform"):
        Reader()(split, ROWS, ONCE)


def test_what_a_transform_refuses_is_named(split: ImageSplit) -> None:
    def refuse(sample, labels):
        if labels["number"] == 6:
            raise DataError("data.transform", "not this one")
        return sample, labels

    with pytest.raises(DataError, match=r"^6\.jpg: data\.transform: not this one"):
        Reader(refuse, skip=True)(split, ROWS, ONCE)


class Noisy(Split):
    """A user's split that augments by itself."""

    def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()]), self.labels_of(row)


def test_a_split_that_draws_by_itself_is_seeded_too() -> None:
    reader, noisy = Reader(seed=1), Noisy(8, {"number": torch.arange(8).float()})
    whole = reader(noisy, ROWS, ONCE).inputs
    assert len(whole.unique()) == whole.numel()
    assert torch.equal(reader(noisy, ROWS[3:], ONCE[3:]).inputs, whole[3:])
    assert not torch.equal(reader(noisy, ROWS, ONCE + 1).inputs, whole)
