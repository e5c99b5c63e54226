"""Datasets of torch: torchvision's, and a user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from items import BOTH, KIND, Own, pairs, source
from PIL import Image
from torch.utils.data import Dataset, IterableDataset
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.reader import Reader
from datamodules.reading.transforms import TorchvisionTransforms
from datamodules.sampling import Shared
from datamodules.sources import SPLITS, TorchDataset, UnreadableRowError
from datamodules.targets import Binary, MultiLabel, Target


@pytest.mark.parametrize("held", [None, "targets", "labels"])
@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_labels_of_one_task(held: str | None, form: Any) -> None:
    labels = [2, 0, 1, 1]
    data = Own(pairs(labels), **({held: form(labels)} if held else {}))
    split = TorchDataset(data, KIND, val=data, test=data).split("train")
    assert data.reads == (0 if held else 12)
    assert split.labels("kind").tolist() == labels
    assert split.labels("kind").dtype == torch.int64
    assert split[2][0].tolist() == [2.0, 2.0]
    assert split[2][1]["kind"] == 1


def test_held_labels_that_are_not_the_items() -> None:
    """Those of several tasks, of another length, or without the transform of an item's target."""
    items = pairs([1, 1])
    for data, targets in (
        (Own(items, targets=[0, 0], target_transform=lambda target: target + 1), KIND),
        (Own(items, targets=[0, 0, 0]), KIND),
        (Own(items, labels=None), KIND),
    ):
        assert TorchDataset(data, targets, val=data, test=data).split("train").labels("kind").tolist() == [1, 1]
    data = Own(pairs([(1, 2.5), (0, 0.5)]), targets=[0, 0])
    split = TorchDataset(data, BOTH, val=data, test=data).split("train")
    assert split.labels("kind").tolist() == [1, 0]


FORMS = [
    (pairs([("b", 2.5), (None, 1.5), (0, float("nan"))]), None),
    (pairs([{"size": 2.5, "kind": "b"}, {"size": 1.5}, {"kind": 0, "size": None}]), None),
    (
        [
            {"size": np.float32(2.5), "kind": torch.tensor([1]), "x": torch.zeros(2)},
            {"size": 1.5, "kind": float("nan"), "x": torch.ones(2)},
            {"size": torch.tensor(torch.nan), "kind": np.int64(0), "x": torch.full((2,), 2.0)},
        ],
        "x",
    ),
]


@pytest.mark.parametrize(("items", "inputs"), FORMS)
def test_labels_of_several_tasks(items: list[Any], inputs: str | None) -> None:
    split = source(items, BOTH, inputs=inputs).split("val")
    split.check(BOTH)
    assert split.labelled["kind"].tolist() == [True, False, True]
    assert split.labelled["size"].tolist() == [True, True, False]
    assert split.labels("kind").tolist() == [1, 0]
    assert split.labels("size").tolist() == [2.5, 1.5]
    assert [split[row][0].mean() for row in range(3)] == [0, 1, 2]


def test_labels_of_other_kinds() -> None:
    targets: dict[str, Target] = {"sick": Binary(("well", "ill")), "flags": MultiLabel(("x", "y"))}
    split = source(pairs([("ill", [0, 1]), (False, torch.tensor([1.0, 1.0]))]), targets).split("test")
    split.check(targets)
    assert split.labels("sick").tolist() == [1.0, 0.0]
    assert split.labels("flags").tolist() == [[0.0, 1.0], [1.0, 1.0]]
    one = source(pairs([[0, 1], [1, 1]]), {"flags": targets["flags"]}).split("test")  # one label, and not two tasks'
    assert one.labels("flags").tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_modalities() -> None:
    items = [{"image": torch.zeros(1, 4, 4), "text": torch.ones(3), "id": "x", "kind": 0}] * 2
    split = source(items, KIND, inputs=["text", "image"]).split("train")
    assert {name: tuple(x.shape) for name, x in split[0][0].items()} == {"text": (3,), "image": (1, 4, 4)}
    split = source([(item, item["kind"]) for item in items], KIND, inputs=["text"]).split("train")
    assert list(split[0][0]) == ["text"]


def test_absent_splits_are_cut_from_training_by_class() -> None:
    labels = [0] * 40 + [1] * 20 + [None] * 20
    data = TorchDataset(Own(pairs(labels)), KIND, fractions=(0.5, 0.25, 0.25))
    rows = {name: [int(data.split(name).key(row)) for row in range(len(data.split(name)))] for name in SPLITS}
    assert sorted(row for part in rows.values() for row in part) == list(range(80))
    for name, share in zip(SPLITS, (0.5, 0.25, 0.25), strict=True):
        split = data.split(name)
        assert split.labels("kind").bincount().tolist() == [40 * share, 20 * share]
        assert len(split) == 80 * share
        for row, index in enumerate(rows[name]):
            assert split.name(row) == f"row {index} of train"
            assert split[row][0][0] == index
            assert split.labelled["kind"][row] == (labels[index] is not None)
    data = TorchDataset(Own(pairs(labels)), KIND, test=Own(pairs([2, 2])), fractions=(0.6, 0.2, 0.2))
    assert [len(data.split(name)) for name in SPLITS] == [60, 20, 2]
    other = TorchDataset(Own(pairs(labels)), KIND, test=Own(pairs([2, 2])), fractions=(0.6, 0.2, 0.2), seed=1)
    assert data.split("val").rows.tolist() != other.split("val").rows.tolist()


@pytest.mark.parametrize("error", [OSError, EOFError, SyntaxError])
def test_row_that_cannot_be_read(error: type[Exception]) -> None:
    items = [*pairs([0, 1, 2]), error("image file is\ntruncated")]
    held = TorchDataset(Own(items, targets=[0, 1, 2, 0]), KIND, val=Own(items[:3]), test=Own(items[:3])).split("train")
    assert not held.missing()  # nobody has read it yet
    with pytest.warns(UserWarning, match="^train: rows that cannot be read"):
        split = TorchDataset(Own(items), KIND, val=Own(items[:3]), test=Own(items[:3])).split("train")
    for each in (held, split):
        with pytest.raises(UnreadableRowError, match=r"^row 3 of train: must be .*: image file is truncated$"):
            each[3]
    assert split.missing() == [3]
    assert split.labelled["kind"].tolist() == [True, True, True, False]


def test_rows_broken_at_the_start_are_warned_of_once_and_stay_out(recwarn: pytest.WarningsRecorder) -> None:
    data = Own([*pairs([0, 1, 2]), *[OSError(f"no {number}") for number in range(4)]])
    split = TorchDataset(data, KIND, val=Own(pairs([0])), test=Own(pairs([0]))).split("train")
    (warned,) = [str(each.message) for each in recwarn if "cannot be read" in str(each.message)]
    named = "; ".join(f"row {row} of train: no {row - 3}" for row in (3, 4, 5))
    assert warned == f"train: rows that cannot be read have no label, found 4: {named}; …"
    data.items[3] = data.items[0]  # a disk that is there again: the row's label is counted nowhere
    read = Reader(skip=True)(split, torch.arange(7), torch.zeros(7, dtype=torch.int64))
    assert read.kept.tolist() == [0, 1, 2]
    assert len(read.skipped) == 4


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError])
def test_a_bug_in_the_dataset_is_no_unreadable_row(error: type[Exception]) -> None:
    """At the start, and where the row is read only later."""
    items = [*pairs([0, 1, 2]), error("a bug")]
    message = rf"^row 3 of train: .*, found {error.__name__}: '?a bug'? \(line \d+ of items\.py\)$"
    with pytest.raises(ValueError, match=message):
        source(items, KIND)
    data = Own(items, targets=[0, 1, 2, 0])
    split = TorchDataset(data, KIND, val=data, test=data).split("train")
    with pytest.raises(ValueError, match=message) as raised:
        Reader(skip=True)(split, torch.tensor([3]), torch.tensor([0]))
    assert isinstance(raised.value.__cause__, error)


class Opened(Dataset):
    """Images that are opened, but not decoded: PIL does that when a pixel is wanted."""

    def __init__(self, folder: Path, keys: bool) -> None:
        self.folder, self.keys, self.targets = folder, keys, [0, 1]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> Any:
        image = Image.open(self.folder / f"{row}.jpg")
        return {"image": image, "other": torch.zeros(1), "kind": row} if self.keys else (image, row)


@pytest.mark.parametrize("inputs", [None, "image", ["image", "other"]])
def test_opened_image_is_decoded_with_its_row(tmp_path: Path, inputs: Any) -> None:
    for row in range(2):
        Image.effect_noise((32, 32), 50).save(tmp_path / f"{row}.jpg")
    data = Opened(tmp_path, keys=inputs is not None)
    split = TorchDataset(data, KIND, val=data, test=data, inputs=inputs).split("train")
    broken = tmp_path / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    with pytest.raises(UnreadableRowError, match=r"^row 1 of train: must be readable, found: .*truncated"):
        split[1]
    reader = Reader(TorchvisionTransforms([v2.Resize([8, 8])], []).of("train", None), skip=True)
    read = reader(split, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    assert read.kept.tolist() == [0]
    assert len(read.skipped) == 1


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_whether_an_unreadable_row_stops_the_run_is_the_users_choice() -> None:
    items = [*pairs([0, 1, 2]), OSError("broken")]
    with pytest.raises(ValueError, match=r"data\.sources\.own: .*row 3 of train, which cannot be read \(broken\)"):
        MultiTaskDataModule({"own": source(items, KIND)}, Shared(batch_size=2))
    data = MultiTaskDataModule({"own": source(items, KIND)}, Shared(batch_size=2), on_error="skip")
    read = list(data.val_dataloader())
    assert sum(len(batch.ids) for batch in read) == 3
    assert len([why for batch in read for why in batch.skipped]) == 1


BAD = [
    (
        pairs([0, "d"]),
        KIND,
        None,
        r"^row 1 of train, target 'kind': a label must be one of \['a', 'b', 'c'\], found 'd'$",
    ),
    (pairs([0, [1, 2]]), KIND, None, r"^row 1 of train, target 'kind': .*from 0 to 2, found \[1, 2\]$"),
    (pairs([0, object]), KIND, None, r"^row 1 of train, target 'kind': .*from 0 to 2, found <class 'object'>$"),
    (
        pairs([(0, "long")]),
        BOTH,
        None,
        r"^row 0 of train, target 'size': .*a finite number .*, found 'long'$",
    ),
    (pairs([(0, 1, 2)]), BOTH, None, r"^row 0 of train: .*each of \['kind', 'size'\], found \(0, 1, 2\)$"),
    (pairs([0]), BOTH, None, r"^row 0 of train: .*each of \['kind', 'size'\], found 0$"),
    ([torch.zeros(3)], KIND, None, r"^row 0 of train: an item must be \(input, target\) or a dict, found Tensor$"),
]


@pytest.mark.parametrize(("items", "targets", "inputs", "message"), BAD)
def test_bad_item(items: list[Any], targets: dict[str, Target], inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source(items, targets, inputs=inputs)


def test_index_outside_the_classes() -> None:
    for label in (3, -1, 0.5):
        with pytest.raises(ValueError, match=r"^row 1 of train, target 'kind': .*from 0 to 2, found"):
            source(pairs([0, label]), KIND).split("train").check(KIND)


@pytest.mark.parametrize("inputs", [None, "picture", ["x", "picture"]])
def test_keys_that_an_item_does_not_have(inputs: Any) -> None:
    split = source([{"x": torch.zeros(2), "kind": 0}] * 2, KIND, inputs=inputs).split("train")
    with pytest.raises(ValueError, match=r"^row 0 of train: `inputs` must be keys .*found \['kind', 'x'\]$"):
        split[0]


def test_dataset_without_a_length() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(pairs([0]))

    with pytest.raises(ValueError, match=r"^val: must be a dataset with a length, found Stream$"):
        TorchDataset(Own(pairs([0])), KIND, val=Stream())


def test_from_yaml(train_here, tmp_path: Path) -> None:
    """A user's own dataset, of several modalities, for a network of several."""
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Mine(torch.utils.data.Dataset):\n"
        "    def __init__(self, rows: int): self.rows = rows\n"
        "    def __len__(self): return self.rows\n"
        "    def __getitem__(self, row):\n"
        "        return {'image': torch.rand(3, 8, 8), 'age': torch.rand(2), 'size': row / 9, 'kind': 'ab'[row % 2]}\n"
    )
    (tmp_path / "mine.yaml").write_text("""
data:
  sources:
    mine:
      class_path: TorchDataset
      init_args:
        train: {class_path: mine.Mine, init_args: {rows: 40}}
        inputs: [image, age]
        targets:
          kind: {class_path: Categorical, init_args: {classes: [a, b]}}
          size: {class_path: Continuous, init_args: {unit: m}}
model:
  backbone:
    class_path: LateFusion
    init_args:
      backbones:
        image: {class_path: LeNet, init_args: {kernel_size: 3, padding: 1}}
        age: {class_path: MLP, init_args: {hidden: [4]}}
  sharing: IndependentNetworks
""")
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.fast_dev_run", "1"]
    cli = train_here("fit", "--config", "mine.yaml", *quiet)
    assert cli.datamodule.input_shape == {"image": (3, 8, 8), "age": (2,)}
    assert cli.model.network.sharing.networks["kind"].channels == [54]


def test_torchvision_dataset_with_a_transform() -> None:
    data = FakeData(size=30, image_size=(3, 8, 8), num_classes=3, transform=lambda image: image.resize((4, 4)))
    module = MultiTaskDataModule({"fake": TorchDataset(data, KIND)}, Shared(batch_size=4))
    assert module.input_shape == (3, 4, 4)
    assert [len(module.datasets[name]) for name in SPLITS] == [21, 5, 4]
