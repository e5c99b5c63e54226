"""`train.py data`: what the data is, before anyone trains."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL
from jsonargparse import Namespace
from PIL import Image
from torch import Tensor

from app.reports.data.report import processes
from app.reports.data.sheet import contact_sheet, labels_of, pictures, some_rows
from app.reports.data.tables import drawn
from datamodules.batch import MultiTaskBatch
from datamodules.sampling import PerTask, Shared
from datamodules.sources import ImageSplit, Source, SplitName, TensorSplit
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel

TARGETS = {
    "kind": Categorical(("cat", "[red] dog")),
    "wet": Binary(("dry", "soaked")),
    "marks": MultiLabel(("ring", "scar")),
    "age": Continuous("years"),
}


class Jpegs(Source):
    """Twenty photographs: five with a kind, ten others with an age."""

    def __init__(self, root: str = "photos") -> None:
        self.root = Path(root)
        self.targets = {"kind": TARGETS["kind"], "age": TARGETS["age"]}

    def split(self, name: SplitName) -> ImageSplit:
        self.root.mkdir(exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 255, (20, 4, 5, 3), dtype=np.uint8)
        for row, image in enumerate(pixels):
            Image.fromarray(image).resize((50 + row, 40), Image.Resampling.BICUBIC).save(self.root / f"{row}.jpg")
        rows = torch.arange(20)
        labels = {"kind": rows % 2, "age": rows.float()}
        return ImageSplit(self.root, [f"{row}.jpg" for row in range(20)], labels, {"kind": rows < 5, "age": rows >= 10})


class Vectors(Source):
    """Rows of five numbers."""

    def __init__(self) -> None:
        self.targets = {"age": TARGETS["age"]}

    def split(self, name: SplitName) -> TensorSplit:
        return TensorSplit(torch.rand(9, 5), {"age": torch.arange(9.0)})


class Both(Jpegs):
    """Photographs, each with four numbers."""

    def split(self, name: SplitName) -> ImageSplit:
        return WithNumbers(self.root, super().split(name))


class WithNumbers(ImageSplit):
    def __init__(self, root: Path, images: ImageSplit) -> None:
        super().__init__(root, list(images.paths), images._labels, images.labelled)

    def __getitem__(self, row: int) -> tuple[dict, dict[str, Tensor]]:
        return {"features": torch.rand(4), "image": self.image(row)}, self.labels_of(row)


def config(folder: Path, source: str, **data: object) -> str:
    """A configuration of a training on one source, in a file."""
    path = folder / "config.yaml"
    content = {
        "name": "mine",
        "data": {"sources": {"mine": {"class_path": f"test_data_command.{source}"}}, **data},
        "model": {"backbone": {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet"}}},
        "trainer": {"accelerator": "cpu"},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def table_rows(text: str) -> dict[str, list[str]]:
    """Task → cells of a printed table."""
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line[:1] == "│"]
    return {line[0]: line[1:] for line in lines}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_digits(train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_here("data", "--config", str(SMALL), "--trainer.devices", "2", "--data.sampling.batch_size", "16")
    text = capsys.readouterr().out
    rows = table_rows(text)
    assert rows["rows"][1:4] == ["250", "64", "64"]
    assert rows["left"][:4] == ["Categorical", "250", "64", "64"]
    assert "10 classes: fewest" in rows["left"][4]
    assert rows["parity"][4].startswith("different ")
    assert rows["sum"][0] == "Continuous"
    assert [rows[task][5] for task in ("left", "right", "sum", "parity")] == ["100.0%"] * 4
    assert "2 processes" in text
    assert "an epoch 8 steps" in text
    assert "runs/small/data.png" in text
    assert [path.name for path in (tmp_path / "runs" / "small").iterdir()] == ["data.png"]
    sheet = np.asarray(Image.open(tmp_path / "runs" / "small" / "data.png").convert("L"))
    assert sheet.shape[0] > 200
    assert sheet.shape[1] > 1000
    assert len(np.unique(sheet)) > 16


def test_unequal_tasks_of_files_with_transforms(
    train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Both tasks get half of every step; images of all sizes become the network's own."""
    sampling = {"class_path": "PerTask", "init_args": {"batch_size": 4}}
    cli = train_here("data", "--config", config(tmp_path, "Jpegs", sampling=sampling, transform="timm"))
    rows = table_rows(capsys.readouterr().out)
    assert rows["kind"] == ["Categorical", "5", "5", "5", "cat 60.0%, [red] dog 40.0%", "50.0%"]
    assert rows["age"] == ["Continuous", "10", "10", "10", "mean 14.5, std 2.872 years", "50.0%"]
    assert cli.config_init["data"]["data"].input_shape == (3, 160, 160)
    assert (tmp_path / "runs" / "mine" / "data.png").is_file()
    assert not hasattr(cli, "trainer")


TORCHVISION = {
    "class_path": "TorchvisionTransforms",
    "init_args": {
        "train": [
            {"class_path": "RandomResizedCrop", "init_args": {"size": [24, 24], "scale": [0.5, 1.0]}},
            "RandomHorizontalFlip",
            "ToImage",
            {"class_path": "ToDtype", "init_args": {"dtype": "torch.float32", "scale": True}},
            {"class_path": "Normalize", "init_args": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}},
        ],
        "eval": [{"class_path": "Resize", "init_args": {"size": [24, 24], "interpolation": "bicubic"}}],
    },
}
RESIZED = ["--data.transform", "TimmTransforms", "--data.transform.input_size", "24"]


@pytest.mark.parametrize(("transform", "options"), [(TORCHVISION, []), (None, RESIZED), ("timm", RESIZED)])
def test_transforms_from_file_and_command_line(
    train_here: Callable, tmp_path: Path, transform: object, options: list[str]
) -> None:
    cli = train_here("data", "--config", config(tmp_path, "Jpegs", transform=transform), *options)
    assert cli.config_init["data"]["data"].input_shape == (3, 24, 24)


def test_network_of_the_images_among_several(train_here: Callable, tmp_path: Path) -> None:
    image = "{class_path: TimmBackbone, init_args: {name: test_vit}}"
    fusion = ["--model.backbone", "LateFusion", "--model.backbone.backbones", f"{{image: {image}, features: MLP}}"]
    cli = train_here("data", "--config", config(tmp_path, "Both", transform="timm"), *fusion)
    assert cli.config["data"]["data"]["network"] == "test_vit"
    assert cli.config_init["data"]["data"].input_shape == {"features": (4,), "image": (3, 160, 160)}
    assert (tmp_path / "runs" / "mine" / "data.png").is_file()


def test_data_without_a_network(train_here: Callable, tmp_path: Path) -> None:
    """It needs none, unless for timm's transforms."""
    content = yaml.safe_load(Path(config(tmp_path, "Jpegs", transform=TORCHVISION)).read_text())
    del content["model"]
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    train_here("data", "--config", "data.yaml")
    assert (tmp_path / "runs" / "mine" / "data.png").is_file()


def test_timm_transforms_without_a_network(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    content = yaml.safe_load(Path(config(tmp_path, "Jpegs", transform="timm")).read_text())
    del content["model"]
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit) as stopped:
        train_here("data", "--config", "data.yaml")
    assert stopped.value.code == 2
    assert "model.backbone" in capfd.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("Jpegs", ["--model.backbone", "LeNet"], ["data.transform", "model.backbone", "TimmBackbone"]),
        ("Jpegs", ["--data.transform", "null"], [".jpg", "one shape", "data.transform"]),
        ("Vectors", [], ["row 0", "data.transform", "[C, H, W]", "(5,)"]),
        ("Jpegs", ["--model.width", "3"], ["model.width"]),
        ("Jpegs", ["--data.sampling.batch_size", "0"], ["data.sampling.batch_size"]),
    ],
)
def test_refusals(
    train_here: Callable,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
    source: str,
    options: list[str],
    words: list[str],
) -> None:
    path = config(tmp_path, source, transform="timm", sampling={"class_path": "Shared"})
    with pytest.raises(SystemExit) as stopped:
        train_here("data", "--config", path, *options)
    assert stopped.value.code == 2
    message = capfd.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    for word in words:
        assert word in message


def test_no_sheet_without_images(train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_here("data", "--config", config(tmp_path, "Vectors"))
    assert "No contact sheet" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_summary() -> None:
    many = Categorical(tuple("abcdef"), (10, 20, 30, 5, 15, 20))
    assert many.summary() == "6 classes: fewest d (5.0%), most c (30.0%)"
    assert Categorical(("a", "b"), (3, 1)).summary() == "a 75.0%, b 25.0%"
    assert Binary(("dry", "wet"), 0.2).summary() == "dry 80.0%, wet 20.0%"
    assert MultiLabel(("ring", "scar"), (0.25, 1.0)).summary() == "ring 25.0%, scar 100.0%"
    assert Continuous(None, 2.0, 0.5).summary() == "mean 2, std 0.5"


def partial_labels() -> Tensor:
    """[2, 40]: 30 rows for the first task, 10 for the second, none for both."""
    return torch.stack([torch.arange(40) < 30, torch.arange(40) >= 30])


def test_shares_are_those_of_the_steps() -> None:
    labelled = partial_labels()
    shared = drawn(Shared(8).plan(labelled, ["a", "b"], seed=0), micro_batches=5, accumulate=2)
    assert shared.shares == [0.75, 0.25]
    assert (shared.rows, shared.steps) == (40 / 3, 3)
    plan = PerTask(batch_size=4).plan(labelled, ["a", "b"], seed=0)
    even = drawn(plan, micro_batches=len(plan), accumulate=1)
    assert even.shares == [0.5, 0.5]
    assert (even.rows, even.steps) == (8, len(plan))


def test_labels_are_in_the_users_words() -> None:
    batch = MultiTaskBatch(
        inputs=torch.rand(3, 3, 4, 4),
        targets={
            "kind": torch.tensor([1, 0]),
            "marks": torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
            "age": torch.tensor([40.25]),
        },
        rows={"kind": torch.tensor([0, 2]), "marks": torch.tensor([1, 2]), "age": torch.tensor([2])},
        counts={"kind": 2, "wet": 1, "marks": 2, "age": 1},
        ids=torch.arange(3),
    )
    assert [dict(labels_of(batch, row, TARGETS)) for row in range(3)] == [
        {"kind": "[red] dog", "wet": "–", "marks": "–", "age": "–"},
        {"kind": "–", "wet": "–", "marks": "ring, scar", "age": "–"},
        {"kind": "cat", "wet": "–", "marks": "none", "age": "40.25 years"},
    ]


def test_sheet_shows_every_picture_stretched() -> None:
    """Twelve pictures, dark, shifted and in other ranges, each with one white half, in two rows of eight."""
    images = torch.zeros(12, 3, 10, 10)
    images[..., 5:] = 0.1
    images = images * torch.linspace(1, 50, 12).view(-1, 1, 1, 1) - 3
    sheet = np.asarray(contact_sheet(images, [[("kind", "cat")]] * 12, "twelve"))
    black_rows = (sheet == 0).all(axis=2).sum(axis=1)
    assert sorted(set(black_rows)) == [0, 4 * 80, 8 * 80]
    assert (black_rows > 0).sum() == 2 * 160


@pytest.mark.parametrize(("shape", "scale"), [((1, 400, 200), 0.4), ((3, 300, 300), 160 / 300), ((1, 12, 12), 13)])
def test_sheet_fits_pictures_of_any_size(shape: tuple[int, ...], scale: float) -> None:
    one = contact_sheet(torch.rand(1, *shape), [[]], "")
    two = contact_sheet(torch.rand(1, *shape), [[("task", "a very long label " * 20)] * 40], "title " * 99)
    assert two.width == one.width == 12 + max(160, round(shape[2] * scale)) + 12
    assert round(shape[1] * scale) < one.height < two.height < one.height + 20 * 12


def test_pictures_are_found_among_modalities() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert pictures({"features": torch.rand(2, 5), "image": images}) is images
    assert pictures(torch.rand(2, 5)) is None
    assert pictures(torch.rand(2, 4, 8, 8)) is None


def test_rows_are_spread_over_the_batch() -> None:
    assert some_rows(3, 32) == [0, 1, 2]
    rows = some_rows(100, 32)
    assert len(set(rows)) == 32
    assert (rows[0], rows[-1]) == (0, 99)


@pytest.mark.parametrize(("devices", "nodes", "expected"), [("auto", 1, 1), (3, 1, 3), ("2", 2, 4)])
def test_processes(devices: int | str, nodes: int, expected: int) -> None:
    assert processes(Namespace(accelerator="cpu", devices=devices, num_nodes=nodes)) == expected
