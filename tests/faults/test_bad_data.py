"""Bad tables, images and items: each ends in one line that names its file and row, before the first step."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

CONFIG = """
name: bad
model: {optimizer: {class_path: AdamW, init_args: {lr: 0.01}}}
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false, enable_model_summary: false}
"""
MLP = ["--model.backbone", "MLP", "--model.backbone.hidden", "[4]"]
GOOD = "x1,x2,y\n" + "".join(f"{row},{row * 2},{row % 2}\n" for row in range(60))
TABLE = "{{t: {{class_path: Table, init_args: {{path: '{path}', targets: [y], features: [x1, x2]{more}}}}}}}"
LONG = "a" * 300 + ".csv"

# File | its bytes | what the line must have.
TABLES: dict[str, tuple[bytes, str]] = {
    "nul.csv": (GOOD.replace("3,6,1", "3,6\0,1").encode(), "row 3 of nul.csv, column 'x2': a cell must be a number"),
    "digits.csv": (GOOD.replace("3,6,1", f"3,{'9' * 200_000},1").encode(), "row 3 of digits.csv, column 'x2'"),
    "text.csv": (GOOD.replace("3,6,1", f"3,{'z' * 200_000},1").encode(), "row 3 of text.csv, column 'x2'"),
    "huge.csv": (GOOD.replace("3,6,1", "3,1e300,1").encode(), "row 3 of huge.csv, column 'x2': a feature must be"),
    "target.csv": (GOOD.replace("3,6,1", "3,6,1e300").encode(), "row 3 of target.csv"),
    "ragged.csv": (
        GOOD.replace("3,6,1", "3,6,1,9").encode(),
        "ragged.csv: must be a whole csv table, found: 4 cells",
    ),
    "short.csv": (GOOD.replace("3,6,1", "3,6").encode(), "2 cells in row 3 under a header of 3"),
    "empty.csv": (b"", "empty.csv: a table must have a header"),
    "head.csv": (b"x1,x2,y\n", "head.csv: a table must have at least one row"),
    "latin.csv": (GOOD.encode() + b"caf\xe9,1,0\n", "latin.csv: must be a whole csv table"),
    "twice.csv": (GOOD.replace("x1,x2", "x1,x1").encode(), "twice.csv, column 'x1': must be in the header once"),
    "headless.csv": (b"1,2,0\n" * 30, "headless.csv: a column must be in the header"),
    "utf-16.csv": (GOOD.encode("utf-16"), "utf-16.csv"),
    "bytes.csv": (bytes(range(256)) * 20, "bytes.csv"),
    "broken.parquet": (b"PAR1xxxxPAR1", "broken.parquet: must be a whole parquet table"),
    "semicolons.csv": (GOOD.replace(",", ";").encode(), "semicolons.csv: cells must be divided by commas"),
    "mac.csv": (GOOD.replace("\n", "\r").encode(), "mac.csv: lines must end with a line feed"),
    "one.csv": (GOOD.replace(",1\n", ",0\n").encode(), "one.csv, column 'y': a target must have two distinct values"),
    "words.csv": (
        GOOD.replace("3,6,1", "3,six,1").encode(),
        "row 3 of words.csv, column 'x2': a cell must be",
    ),
}
OPTIONS = {
    "fractions: [0.5, 0.6, 0.1]": "`fractions` must be positive and add up to 1",
    "fractions: [-1, 1, 1]": "`fractions` must be positive and add up to 1",
    "fractions: [.nan, 0.5, 0.5]": "fractions.0: must be a finite number, found nan",
    "fractions: [0.5, 0.5]": "fractions",
    "split: nothing": "no 'nothing'",
    "group: nothing": "no 'nothing'",
    "stratify: nothing": "`stratify`",
    "seed: -1": "data.sources.t.init_args.seed: must be at least 0, found -1",
    "mode: X": "mode",
    "image: x1": "row 0 of good.csv (0): the input must be there",
    "nothing: 1": "nothing",
}


@pytest.fixture
def refused(train_here: Callable, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """The last line of a run that is refused."""
    Path("bad.yaml").write_text(CONFIG)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ending:
            train_here("fit", "--config", "bad.yaml", *arguments)
        last = capfd.readouterr().err.strip().splitlines()[-1]
        assert ending.value.code == 2, last
        assert last.startswith("error: "), last
        assert len(last) < 3000
        return last

    return run


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table(refused: Callable[..., str], name: str) -> None:
    content, words = TABLES[name]
    Path(name).write_bytes(content)
    assert words in refused(*MLP, "--data.sources", TABLE.format(path=name, more=""))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_bad_option_of_a_table(refused: Callable[..., str], option: str) -> None:
    Path("good.csv").write_text(GOOD)
    assert OPTIONS[option] in refused(*MLP, "--data.sources", TABLE.format(path="good.csv", more=f", {option}"))


@pytest.mark.parametrize("path", ["absent.csv", "folder.csv", "pipe.csv", "/dev/null", LONG])
def test_no_table(refused: Callable[..., str], path: str) -> None:
    Path("folder.csv").mkdir()
    os.mkfifo("pipe.csv")
    assert path in refused(*MLP, "--data.sources", TABLE.format(path=path, more=""))


def broken(path: str) -> None:
    Path(path).write_bytes(b"\x89PNG broken")


def small(path: str) -> None:
    Image.new("RGB", (9, 9)).save(path)


IMAGES: dict[str, Callable[[str], None]] = {
    "the file must be there": os.mkfifo,
    "the file must be there, found": lambda path: Path(path).symlink_to("/dev/zero"),
    "found none at": lambda path: Path(path).symlink_to("nowhere"),
    "must be a whole image, found: cannot identify": broken,
    "must be a whole image": lambda path: Path(path).touch(),
    "all inputs must have one shape": small,
}
FOLDER = ["--model.backbone", "LeNet", "--data.sources", "{t: {class_path: Folder, init_args: {path: images}}}"]


@pytest.fixture
def images(refused: Callable[..., str]) -> None:
    for kind in "ab":
        Path(f"images/{kind}").mkdir(parents=True)
        for row in range(10):
            Image.new("RGB", (16, 16), (row * 9, 9, 9)).save(f"images/{kind}/{row}.png")


@pytest.mark.parametrize("words", IMAGES)
def test_a_bad_image(refused: Callable[..., str], images: None, words: str) -> None:
    IMAGES[words]("images/a/99.png")
    line = refused(*FOLDER)
    assert words in line
    assert "a/99.png" in line


def test_a_name_that_is_not_utf8(refused: Callable[..., str], images: None) -> None:
    Image.new("RGB", (16, 16)).save(os.fsdecode(b"images/a/\xff.png"))
    assert "names of files must be UTF-8, found b'a/\\xff.png'" in refused(*FOLDER)


ITEMS = """
import sys
import torch
from torch.utils.data import Dataset

class Items(Dataset):
    def __init__(self, kind: str) -> None:
        self.kind = kind
    def __len__(self) -> int:
        return 64
    def __getitem__(self, row: int):
        x, y = torch.full((1, 8, 8), float(row)), row % 2
        return self.odd(x, y) if row == 4 or self.kind.startswith("all ") else (x, y)
    def odd(self, x, y):
        kind = self.kind.removeprefix("all ")
        if kind == "raise":
            raise RuntimeError("broken item")
        if kind == "exit":
            sys.exit(5)
        inputs = {"text": "hello", "None": None, "list": [1, 2], "complex": x.to(torch.complex64), "int64": x.long(),
                  "shape": torch.ones(1, 9, 9), "nan": x * torch.nan, "huge": x.double() * 1e300}
        labels = {"label huge": 1e300, "label inf": torch.inf, "label text": "cat", "label 7": 7}
        return {"item None": None, "item of 3": (x, y, 1)}.get(kind, (inputs.get(kind, x), labels.get(kind, y)))
"""
KINDS = {
    "text": "row 4 of train: an input must be an image, or an array or tensor of real numbers, found str 'hello'",
    "None": "row 4 of train: an input must be an image, or an array or tensor of real numbers, found NoneType",
    "list": "row 4 of train: an input must be an image, or an array or tensor of real numbers, found list [1, 2]",
    "complex": "row 4 of train: an input must be an image, or an array or tensor of real numbers, found Tensor",
    "shape": "row 4 of train: all inputs must have one shape",
    "nan": "row 4 of train: an input must have finite numbers alone, found nan",
    "huge": "row 4 of train: an input must have finite numbers alone, found inf",
    "raise": "row 4 of train: the dataset must give an item, found RuntimeError: broken item",
    "exit": "must not end the program, found an exit with 5",
    "item None": "row 4 of train: an item must be (input, target) or a dict, found NoneType",
    "item of 3": "row 4 of train: an item must be (input, target) or a dict, found tuple",
    "label huge": "row 4 of train, target 'y': a label must be a class index from 0 to 1",
    "label inf": "row 4 of train, target 'y': a label must be a class index from 0 to 1",
    "label text": "row 4 of train, target 'y': a label must be one of ['a', 'b'], found 'cat'",
    "label 7": "row 4 of train, target 'y': a label must be a class index from 0 to 1, found 7",
    "all text": "row 0 of train: an input must be an image",
    "all complex": "row 0 of train: an input must be an image",
    "all int64": "data.sources: inputs must be torch.float32, as model.backbone reads them, found torch.int64",
}
SOURCE = (
    "{{t: {{class_path: TorchDataset, init_args: {{train: {{class_path: odd.Items, init_args: {{kind: '{kind}'}}}}, "
    "targets: {{y: {{class_path: Categorical, init_args: {{classes: [a, b]}}}}}}}}}}}}"
)
WITH_WORKERS = ("text", "complex", "shape", "raise")


@pytest.mark.parametrize(("kind", "workers"), [(kind, 0) for kind in KINDS] + [(kind, 1) for kind in WITH_WORKERS])
def test_a_bad_item(refused: Callable[..., str], kind: str, workers: int) -> None:
    Path("odd.py").write_text(ITEMS)
    line = refused(*MLP, "--data.sources", SOURCE.format(kind=kind), "--data.num_workers", str(workers))
    assert KINDS[kind] in line
