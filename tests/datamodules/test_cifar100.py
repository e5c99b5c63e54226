"""CIFAR-100's superclasses, from tiny files in the layout of its python version."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import cifar100, cifar_content, pickled

from datamodules.sources import SPLITS, CIFAR100Superclasses
from datamodules.targets import Categorical


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cifar100(tmp_path / "cifar-100-python")


def test_files_are_as_python_2_wrote_them(folder: Path) -> None:
    raw = (folder / "train").read_bytes()
    assert raw.startswith(b"\x80\x02}")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in raw
    assert b"U\x0bfine_labels" in raw  # a `str`, not `unicode`
    with (folder / "train").open("rb") as file:
        content = pickle.load(file, encoding="bytes")  # as the authors' page says to read them
    assert content[b"data"].shape == (300, 3072)
    assert content[b"batch_label"] == b"training batch 1 of 1"


def test_every_image_carries_its_superclass_and_its_place_among_the_five(folder: Path) -> None:
    source = CIFAR100Superclasses(str(folder), val_share=0.4)
    assert list(source.targets) == [f"large_man-made_{number:02}" for number in range(20)]
    target = source.targets["large_man-made_03"]
    assert target == Categorical(("fine_03", "fine_23", "fine_43", "fine_63", "fine_83"))
    for name, content in (("train", cifar_content(3)), ("val", cifar_content(3)), ("test", cifar_content(1, seed=1))):
        split = source.split(name)
        split.check(source.targets)
        carried = torch.stack([split.labelled[task] for task in source.targets])
        assert carried.sum(dim=0).tolist() == [1] * len(split)
        for row in range(len(split)):
            original = int(split.key(row))
            fine = content["fine_labels"][original]
            task = list(source.targets)[fine % 20]
            image, labels = split[row]
            assert split.labelled[task][row]
            assert source.targets[task].classes[labels[task]] == f"fine_{fine:02}"
            red, green, blue = content["data"][original].reshape(3, 32, 32)  # planes, each row by row
            assert np.array_equal(image.numpy(), np.stack([red, green, blue]))


def test_validation_is_a_seeded_share_of_train(folder: Path) -> None:
    source = CIFAR100Superclasses(str(folder.parent), val_share=1 / 3)  # where torchvision's root is
    rows = {name: {source.split(name).key(row) for row in range(len(source.split(name)))} for name in ("train", "val")}
    assert [len(source.split(name)) for name in SPLITS] == [200, 100, 100]
    assert rows["train"] | rows["val"] == {str(row) for row in range(300)}
    for task in source.targets:  # each class alike
        assert torch.bincount(source.split("val").labels(task)).tolist() == [1] * 5
    again, other = (CIFAR100Superclasses(str(folder), 1 / 3, seed).split("val") for seed in (0, 1))
    assert {again.key(row) for row in range(100)} == rows["val"] != {other.key(row) for row in range(100)}


def test_many_rows_at_once_are_those_one_by_one(folder: Path) -> None:
    split = CIFAR100Superclasses(str(folder)).split("test")
    rows = torch.tensor([7, 3, 99])
    images, labels = split.__getitems__(rows)
    assert images.dtype == torch.float32
    for place, row in enumerate(rows.tolist()):
        image, of_row = split[row]
        assert torch.equal(images[place], image / 255)
        assert {task: label[place] for task, label in labels.items()} == of_row


class Malicious:
    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call = call, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [(os.mkdir, "posix.mkdir"), (eval, r"\w+.eval"), (getattr, r"\w+.getattr"), (np.save, "numpy.save")],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_code_is_refused_and_not_run(folder: Path, protocol: int, call: Callable, name: str) -> None:
    trace = folder / "trace"
    arguments = {
        os.mkdir: (str(trace),),
        eval: (f"open({str(trace)!r}, 'w')",),
        getattr: ("", "join"),
        np.save: (str(trace), 0),
    }[call]
    content = {**cifar_content(3), "filenames": Malicious(call, *arguments)}
    (folder / "train").write_bytes(pickle.dumps(content, protocol))
    message = rf"train: must be a whole pickle of arrays and plain values alone, found: {name}"
    with pytest.raises(ValueError, match=message) as caught:
        CIFAR100Superclasses(str(folder))
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("trace*"))


def changed(key: str, change: Callable) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = cifar_content(1, seed=1) if path.name == "test" else cifar_content(3)
        content[key] = change(content[key])
        pickled(path, content)

    return write


def with_value(row: int, value: int) -> Callable[[list], list]:
    return lambda labels: [*labels[:row], value, *labels[row + 1 :]]


BROKEN = [
    ("test", Path.unlink, r"the file must be there, found none$"),
    ("meta", lambda path: path.write_bytes(path.read_bytes()[:-9]), "must be a whole pickle .*, found: ."),
    ("test", lambda path: path.write_bytes(b""), "must be a whole pickle .*, found: Ran out of input$"),
    ("test", lambda path: pickled(path, [1]), "must be a dict with an array of bytes as 'data', found list$"),
    ("test", changed("data", lambda data: data.astype(float)), "an array of bytes as 'data', found ndarray$"),
    ("test", changed("data", lambda data: data[:, 1:]), r"data must have the shape \(N, 3072\), found \(100, 3071\)$"),
    (
        "train",
        changed("fine_labels", lambda labels: labels[1:]),
        "fine_labels must be as many as the 300 .* 299$",
    ),
    ("train", changed("fine_labels", with_value(4, 100)), "row 4: fine_labels .* from 0 to 99, found 100$"),
    ("test", changed("coarse_labels", with_value(6, -1)), "row 6: coarse_labels .* from 0 to 19, found -1$"),
    ("test", changed("fine_labels", with_value(0, 0.5)), "row 0: fine_labels must be class indices .*, found 0.5$"),
    (
        "test",
        changed("coarse_labels", lambda labels: [(label + 1) % 20 for label in labels]),
        r"row 0: 'fine_\d\d' must be in 'large_.*', as its first image in train is, found in 'large_",
    ),
    (
        "train",
        changed("fine_labels", lambda labels: [label % 80 if label == 83 else label for label in labels]),
        "images must be of 5 classes of each superclass, found 4 of 'large_man-made_03'$",
    ),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BROKEN)
def test_broken_file(folder: Path, name: str, spoil: Callable, message: str) -> None:
    spoil(folder / name)
    with pytest.raises(ValueError, match=rf"{name}: .*{message}") as caught:
        CIFAR100Superclasses(str(folder))
    assert "\n" not in str(caught.value)


def test_share_must_be_one(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^val_share: must be greater than 0 and less than 1, found 1\.0$"):
        CIFAR100Superclasses(str(folder), val_share=1.0)
