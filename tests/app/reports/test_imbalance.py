"""Rare classes, tasks that predict one class alone, and how the classes were told apart."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.callbacks.confusion_map import map_of_confusion
from app.reports.imbalance import lone_predictions, rare_classes
from app.tasks.class_counts import ClassCounts
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target

TEN = tuple("abcdefghij")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Binary(("no", "yes"), positives=0.04), "class 'yes' with 4% of the labels"),
        (Binary(("no", "yes"), positives=0.9601), "class 'no' with 3.99% of the labels"),
        (Binary(("no", "yes"), positives=0.1), None),
        (Categorical(("a", "b", "c"), (3, 96, 1)), "class 'c' with 1% of the labels; class 'a' with 3% of the labels"),
        (Categorical(("a", "b", "c", "d"), (9, 31, 30, 30)), "class 'a' with 9% of the labels"),
        (Categorical(TEN, (90, *[101] * 9)), None),
        (Categorical(TEN, (40, *[100] * 9)), "class 'a' with 4.26% of the labels"),
        (Categorical(TEN, (*[1] * 6, *[100] * 4)),
         "class 'a' with 0.246% of the labels; class 'b' with 0.246% of the labels; "
         "class 'c' with 0.246% of the labels; and 3 more"),
        (MultiLabel(("x", "y"), (0.05, 0.95)), "class 'x' with 5% of the labels"),
        (Categorical(("a", "b")), None),
        (Continuous(), None),
    ],
)  # fmt: skip
def test_classes_with_few_labels_are_named(target: Target, expected: str | None) -> None:
    lines = list(rare_classes({"it": target}))
    assert lines == ([f"warning: task 'it': rare in training: {expected}"] if expected else [])


def counts(*rows: list[int]) -> ClassCounts:
    return ClassCounts.of_matrix(torch.tensor(rows))


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[95, 0], [5, 0]], "class 'no' alone is predicted, which has 95% of the labels"),
        ([[0, 95], [0, 5]], "class 'yes' alone is predicted, which has 5% of the labels"),
        ([[95, 0], [4, 1]], None),
        ([[95, 0], [0, 0]], None),
    ],
)
def test_a_class_that_is_predicted_alone_is_named(matrix: list[list[int]], expected: str | None) -> None:
    lines = list(lone_predictions({"sick": Binary()}, "test", {"sick": counts(*matrix)}))
    assert lines == ([f"warning: task 'sick': in split 'test', {expected}"] if expected else [])


def test_labels_beside_others_that_are_never_or_always_predicted_are_named() -> None:
    told = ClassCounts(*(torch.tensor(x) for x in ([5, 50, 100, 30], [0, 100, 100, 20], [0, 50, 100, 10])), rows=100)
    (line,) = lone_predictions({"flags": MultiLabel(("w", "x", "y", "z"))}, "val", {"flags": told})
    assert line == (
        "warning: task 'flags': in split 'val', class 'w' is never predicted, which 5% of the rows have; "
        "class 'x' is always predicted, which 50% of the rows have"
    )


def test_a_run_tells_of_them_and_of_each_class(
    train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = ["x,split,kind,sick,many,mass"]
    for split, rows in {"train": 200, "val": 50, "test": 50}.items():
        for i in range(rows):
            kind, sick = "c" if i % 25 == 0 else "ab"[i % 2], "yes" if i % 20 == 7 else "no"
            many = "|".join(["p"] * (i % 2) + ["q"] * (i % 25 == 3)) or "|"
            lines.append(f"{i % 2},{split},{kind},{sick},{many},{i * 1.5}")
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    table = "{path: rows.csv, features: [x], split: split, targets: {kind: , sick: , many: , mass: {kind: continuous}}}"
    data = ["--config", str(SMALL), "--data.sources", f"{{rows: {{class_path: Table, init_args: {table}}}}}"]
    train_here("data", *data)
    rare = [
        "warning: task 'kind': rare in training: class 'c' with 4% of the labels",
        "warning: task 'sick': rare in training: class 'yes' with 5% of the labels",
        "warning: task 'many': rare in training: class 'q' with 4% of the labels",
    ]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")] == rare

    train_here("fit", *data, "--model.backbone", "MLP", "--model.optimizer.lr", "0.01")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert said[:3] == rare
    assert (
        said[3] == "warning: task 'sick': in split 'test', class 'no' alone is predicted, which has 94% of the labels"
    )
    folder = tmp_path / "runs/small/version_0"
    results = json.loads((folder / "results.json").read_text())
    classes = results["classes"]
    assert list(classes) == ["kind", "sick", "many"]
    assert classes["sick"] == {
        "figures": {
            "no": {"precision": 0.94, "recall": 1.0, "f1": pytest.approx(94 / 97), "support": 47},
            "yes": {"precision": None, "recall": 0.0, "f1": 0.0, "support": 3},
        },
        "confusion": [[47, 0], [3, 0]],
    }
    assert list(classes["kind"]["figures"]) == ["a", "b", "c"]
    assert np.sum(classes["kind"]["confusion"], axis=1).tolist() == [24, 24, 2]
    assert classes["many"].keys() == {"figures"}
    assert {name: each["support"] for name, each in classes["many"]["figures"].items()} == {"p": 25, "q": 2}
    balanced = np.mean([each["recall"] for each in classes["kind"]["figures"].values()])
    assert results["tasks"]["kind"]["balanced_accuracy"] == pytest.approx(balanced, abs=1e-6)
    pictures = {}
    for file in folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file), size_guidance={"images": 0}).Reload()
        pictures |= {tag: events.Images(tag)[0].encoded_image_string for tag in events.Tags()["images"]}
    assert pictures.keys() == {"confusion/test/kind", "confusion/test/sick"}
    assert Image.open(io.BytesIO(pictures["confusion/test/kind"])).mode == "RGB"


def test_a_run_without_a_test_tells_of_its_validation(
    train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = [
        "x,split,sick",
        *(f"0,{split},{'yes' if i % 4 == 0 else 'no'}" for split in ("train", "val", "test") for i in range(40)),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    table = "{path: rows.csv, features: [x], split: split, targets: {sick: }}"
    train_here(
        "fit", "--config", str(SMALL), "--data.sources", f"{{rows: {{class_path: Table, init_args: {table}}}}}",
        "--model.backbone", "MLP", "--trainer.limit_test_batches", "0",
    )  # fmt: skip
    assert "warning: task 'sick': in split 'val', class 'no' alone is predicted" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs/small/version_0/results.json").read_text())["classes"] == {}


def test_the_picture_is_dark_where_a_class_is_told_and_grey_where_there_is_none() -> None:
    picture = map_of_confusion(np.array([[8, 0, 2], [0, 10, 0], [0, 0, 0]]), ["a", "b", "c"])
    grey, dark = ((np.abs(picture.astype(int) - colour) <= 1).all(axis=2).sum() for colour in ([208] * 3, [8, 48, 107]))
    assert grey > 3 * 40 * 40
    assert dark > 40 * 40
    assert map_of_confusion(np.eye(40, dtype=np.int64), [str(i) for i in range(40)]).shape[2] == 3
