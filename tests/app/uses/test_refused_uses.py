"""What cannot be predicted, tested or exported is one line that names it; what can be in part says of what."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from rows import FEATURES, configuration

from app.runs import load_run


@pytest.fixture
def refused(train_here: Callable, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ending:
            train_here(*arguments)
        error = capfd.readouterr().err.strip()
        assert ending.value.code == 2
        assert "Traceback" not in error
        return str(error.splitlines()[-1].partition("error: ")[2])

    return run


def test_uses_of_a_table(train_here: Callable, refused: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here("fit", "--config", str(configuration("table")))
    frame = pl.read_csv("rows.csv")
    new, out = ["predict", "--run", "runs/table", "--input"], ["--output", "p.csv"]
    frame.drop("hue").write_csv("lacks.csv")
    frame.head(0).write_csv("empty.csv")
    frame.drop("kind").write_csv("unlabelled.csv")
    frame.with_columns(age=pl.lit("old")).write_csv("words.csv")
    frame.with_columns(hue=pl.lit("pink")).write_csv("pink.csv")
    frame.with_columns(seen=pl.lit("yesterday")).write_csv("when.csv")
    Image.new("RGB", (4, 4)).save("x.png")
    np.save("x.npy", np.zeros((3, 4), np.float32))
    Path("p.parquet").touch()
    cases = {
        ("predict", "--run", "runs/none"): "run: must be a run's folder with a checkpoint, or a checkpoint, found no",
        ("predict", "--run", "."): "run: must be a run's folder with a checkpoint, or a checkpoint, found no best",
        (*new, "none.csv"): "input: must be there, found nothing at none.csv",
        (*new, "lacks.csv", *out): "lacks.csv: a column must be in the header, found no 'hue'; ",
        (*new, "empty.csv", *out): "empty.csv: a table must have at least one row, found none below its header",
        (*new, "words.csv", *out): "row 0 of words.csv, column 'age': a cell must be a number, as in training, fou",
        (*new, "pink.csv", *out): "row 0 of pink.csv, column 'hue': must be one of those in training, 3 values: blue",
        (*new, "when.csv", *out): "row 0 of when.csv, column 'seen': a cell must be a date, as 2024-03-01 or ",
        (*new, "x.png", *out): f"input: must be a table with the columns {FEATURES}, as in training, found image files",
        (*new, "x.npy", *out): "input: inputs must be of the shape ",
        (*new, "rows.csv", "--output", "p.parquet"): "output: must not be there yet, or `--overwrite true` be given",
        (*new, "rows.csv", "--output", "p.xlsx"): "output: must end with .csv or .parquet, found p.xlsx",
        (*new, "rows.csv", "--split", "val", *out): "split: is of the run's own data, and must not be given beside",
        ("test", "--run", "runs/table", "--input", "unlabelled.csv"): "unlabelled.csv: a column must be in the ",
        ("export", "--run", "runs/table", "--output", "x.pt2"): "output: must end with .onnx in the format onnx",
        ("export", "--run", "runs/table", "--format", "timm"): "format: timm is for networks with a TimmBackbone",
    }  # fmt: skip
    for arguments, line in cases.items():
        assert refused(*arguments).startswith(line), arguments
        assert not Path("p.csv").exists()

    labels = frame["kind"].to_list()
    labels[:3] = ["dog"] * 3
    frame.with_columns(pl.Series("kind", labels)).write_csv("dogs.csv")
    with pytest.warns(UserWarning, match="3 rows of classes that were not trained cannot be scored: dog"):
        train_here("test", "--run", "runs/table", "--input", "dogs.csv")
    assert "90 rows of dogs.csv" in capfd.readouterr().out


def test_uses_of_images(train_here: Callable, refused: Callable) -> None:
    train_here("fit", "--config", str(configuration("images")))
    new = ["predict", "--run", "runs/images", "--input"]
    Image.new("RGB", (5, 8)).save("small.png")
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff")
    Path("none").mkdir()
    Path("notes.txt").touch()
    cases = {
        (*new, "small.png"): "input: inputs must be of the shape (3, 8, 9), as in training, found (3, 8, 5)",
        (*new, "broken.jpg"): "broken.jpg: ./broken.jpg must be a whole image, found: ",
        (*new, "none"): "input: must have at least one row, found none",
        (*new, "notes.txt"): "input: a file's name must end with one of ",
        (*new, "img", "rows.csv"): "input: a file's name must end with one of ",
    }  # fmt: skip
    for arguments, line in cases.items():
        assert refused(*arguments).startswith(line), arguments
    train_here(*new, "img")
    written = pl.read_csv("runs/images/version_0/predictions.csv")
    assert written["sample"].to_list() == sorted(f"{row}.png" for row in range(90))
    assert refused(*new, "img").startswith("output: must not be there yet")
    with pytest.raises(ValueError, match="input: must be paths, a frame, images, or an array"):
        load_run("runs/images").predict(7)


def test_checkpoints_of_others(train_here: Callable, refused: Callable) -> None:
    train_here("fit", "--config", str(configuration("table")))
    path = Path("runs/table/version_0/checkpoints/last.ckpt")
    content = torch.load(path, weights_only=True)
    for part, line in {
        "configuration": "run: must be of a run of train.py, which keeps its configuration, found none in old.ckpt",
        "contract": "run: old.ckpt: must have the part 'contract', which every use of a network needs, found none",
        "format": "run: must be a checkpoint of format 2, which has all that a use of the network needs, found",
    }.items():
        torch.save({key: each for key, each in content.items() if key != part}, "old.ckpt")
        with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
            load_run("old.ckpt")
    assert refused("predict", "--run", "old.ckpt", "--input", "rows.csv").startswith(
        "run: must be a checkpoint of format 2"
    )
    content["contract"]["targets"]["kind"]["@kind"] = "os.system"
    torch.save(content, "odd.ckpt")
    with pytest.raises(
        ValueError, match=r"os\.system: must be a dataclass of the kind Target, in a module that is imported"
    ):
        load_run("odd.ckpt")


def test_a_changed_file_is_read_as_that_of_training_was(train_here: Callable) -> None:
    """`test` with the same configuration: classes keep their numbers, and features their statistics."""
    config = ["--config", str(configuration("table")), "--trainer.limit_test_batches", "1.0"]
    cli = train_here("fit", *config)
    before = cli.datamodule.contract
    frame = pl.read_csv("rows.csv")
    changed = frame.with_columns(
        kind=pl.when(pl.col("kind") == "ant").then(None).otherwise(pl.col("kind")), age=pl.col("age") + 7
    )
    changed.write_csv("rows.csv")
    after = train_here("test", *config).datamodule
    assert after.contract == before
    kinds = after.datasets["test"].splits[0].labels("kind")
    assert {*kinds.tolist()} == {1.0, 2.0}
    assert json.loads(Path("runs/table/version_0/results.json").read_text())["tasks"]["kind"]["accuracy"] >= 0


@pytest.mark.parametrize(
    "classes", [["ape", "bat", "cat"], ["aardvark", "ape", "bat", "cat"]], ids=["same", "one more"]
)
def test_classes_of_folders_keep_their_numbers(
    train_here: Callable, classes: list[str], recwarn: pytest.WarningsRecorder
) -> None:
    """A folder that sorts before the others would move them all by one."""

    def write(names: list[str]) -> None:
        for part in ("train", "val", "test"):
            for name in names:
                folder = Path("animals", part, name)
                folder.mkdir(parents=True, exist_ok=True)
                for row in range(4):
                    Image.new("RGB", (8, 8), (len(name) * 20, row, 0)).save(folder / f"{row}.png")

    write(["ape", "bat", "cat"])
    sources = "{animals: {class_path: Folder, init_args: {path: animals, task: animal}}}"
    backbone = "{class_path: LeNet, init_args: {widths: [4], kernel_size: 3, features: 8}}"
    config = ["--data.sources", sources, "--model.backbone", backbone, "--trainer.max_epochs", "1"]
    config += ["--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    train_here("fit", *config)
    write(classes)
    data = train_here("test", *config).datamodule
    assert data.targets["animal"].classes == ("ape", "bat", "cat")
    (split,) = data.datasets["test"].splits
    for row, path in enumerate(split.paths):
        name = Path(path).parent.name
        assert bool(split.labelled["animal"][row]) == (name != "aardvark")
        if name != "aardvark":
            assert data.targets["animal"].classes[int(split.labels_of(row)["animal"])] == name
    said = [str(each.message) for each in recwarn if "not trained" in str(each.message)]
    assert bool(said) == ("aardvark" in classes)


def test_unknown_cells_are_told_of_once(train_here: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here("fit", "--config", str(configuration("table")))
    monkeypatch.setattr("datamodules.new_rows.streamed.ROWS", 20)
    frame = pl.read_csv("rows.csv").select(FEATURES).with_columns(town=pl.lit("Lima"))
    frame.write_csv("lima.csv")
    with pytest.warns(UserWarning, match="column 'town': 90 cells are unknown to the network") as said:
        parts = load_run("runs/table").predict("lima.csv")
    assert len([each for each in said if "unknown" in str(each.message)]) == 1
    with pytest.warns(UserWarning, match="90 cells"):
        whole = load_run("runs/table").predict(frame)
    assert parts.equals(whole)
