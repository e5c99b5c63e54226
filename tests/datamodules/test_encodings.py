"""Several tables of features in one run: one encoding."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.multitask import MultiTaskDataModule
from datamodules.sources import SPLITS, Digits, Table
from datamodules.sources.base import align_sources
from datamodules.splits.folds import Folds


def table(folder: Path, name: str, colours: list[str], start: int, features: tuple[str, ...] = ("age", "hue")) -> Table:
    """Two colours by turns; ages count from `start`."""
    lines = [f"{start + r},{colours[r % 2]},{'ab'[r // 2 % 2]},{SPLITS[r % 5 % 3]}" for r in range(20)]
    (folder / f"{name}.csv").write_text("\n".join(["age,hue,y,part", *lines, ""]))
    return Table(folder / f"{name}.csv", ["y"], features=list(features), split="part")


def test_a_value_is_the_same_input_in_every_table(tmp_path: Path) -> None:
    sources = {"a": table(tmp_path, "a", ["red", "blue"], 0), "b": table(tmp_path, "b", ["red", "green"], 100)}
    alike = align_sources({**sources, "digits": Digits(train_pairs=2, val_pairs=2, test_pairs=2)})
    trained = np.array([start + r for start in (0, 100) for r in range(20) if r % 5 % 3 == 0])
    for name, start in (("a", 0), ("b", 100)):
        for part in SPLITS:
            split = alike[name].split(part)
            rows = np.array([int(split.key(row)) for row in range(len(split))])
            ages = (start + rows - trained.mean()) / trained.std()
            assert split.inputs[:, 0].tolist() == pytest.approx(ages.tolist(), abs=1e-6)
            other = ["blue", "green"].index("blue" if name == "a" else "green")
            hues = [[0.0, 0.0, 1.0] if row % 2 == 0 else [float(other == 0), float(other == 1), 0.0] for row in rows]
            assert split.inputs[:, 1:].tolist() == hues
    assert sources["a"].split("train").inputs.shape[1] == 3  # age, blue and red: the given source is as it was


def test_folded_tables_are_encoded_by_their_new_training_rows(tmp_path: Path) -> None:
    sources = {name: table(tmp_path, name, ["red", name], 100 * n).folded(Folds(3, 1)) for n, name in enumerate("ab")}
    splits = [source.split("train").inputs for source in align_sources(sources).values()]
    ages = np.concatenate([split[:, 0].numpy() for split in splits])
    assert (ages.mean(), ages.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize(
    ("features", "colours", "found"),
    [
        (("hue", "age"), ["red", "blue"], "{'hue': 'text', 'age': 'numbers'}"),
        (("age",), ["red", "blue"], "{'age': 'numbers'}"),
        (("age", "hue"), ["1", "2"], "{'age': 'numbers', 'hue': 'numbers'}"),
    ],
    ids=["another order", "fewer", "numbers"],
)
def test_tables_of_other_features_are_refused(
    tmp_path: Path, features: tuple[str, ...], colours: list[str], found: str
) -> None:
    sources = {"a": table(tmp_path, "a", ["red", "blue"], 0), "b": table(tmp_path, "b", colours, 0, features)}
    message = (
        "data.sources.b: features must be those of the other table, 'a', {'age': 'numbers', 'hue': 'text'}, "
        f"found {found}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        align_sources(sources)


def test_the_data_module_encodes_tables_alike(tmp_path: Path) -> None:
    sources = {"a": table(tmp_path, "a", ["red", "blue"], 0), "b": table(tmp_path, "b", ["red", "green"], 100)}
    data = MultiTaskDataModule(sources)
    assert data.input_shape == (4,)  # age, blue, green, red
    ages = torch.cat([split.inputs[:, 0] for split in data.datasets["train"].splits])
    assert ages.mean().item() == pytest.approx(0, abs=1e-6)
