"""What was trained, used on new rows: the same predictions however they come, whatever lies beside them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from rows import FEATURES, configuration, largest_difference

from app.exports import export
from app.runs import load_run


def new_rows(kind: str) -> pl.DataFrame:
    """Rows of the table without their labels, some with cells that training had nothing of."""
    frame = pl.read_csv("rows.csv").head(12)
    if kind == "images":
        return frame.select("image")
    frame = frame.select(*(["image"] if kind == "both" else []), *FEATURES)
    towns = frame["town"].to_list()
    towns[3] = "Lima"  # which is unknown to the network, as is an empty cell
    return frame.with_columns(pl.Series("town", towns))


@pytest.mark.filterwarnings("ignore:.*unknown to the network")
@pytest.mark.parametrize("kind", ["table", "images", "both"])
def test_a_row_is_predicted_the_same_however_it_comes(train_here: Callable, kind: str) -> None:
    train_here("fit", "--config", str(configuration(kind)))
    rows = new_rows(kind)
    rows.write_csv("new.csv")
    rows.write_parquet("new.parquet")
    run = load_run(f"runs/{kind}")
    std = {"weight (g)": run.contract.targets["weight"].std}  # type: ignore[attr-defined]
    together = run.predict("new.csv", probabilities=True)
    alone = pl.concat([run.predict(rows[row : row + 1], probabilities=True) for row in range(len(rows))])
    assert largest_difference(together, alone, std) < 1e-5
    beside = pl.concat([rows.head(3)] * 4 + [rows])  # whose statistics are others
    assert largest_difference(together, run.predict(beside.to_pandas(), probabilities=True)[12:], std) < 1e-5
    assert largest_difference(together, run.predict("new.parquet", probabilities=True), std) < 1e-5

    own = run.predict("rows.csv", probabilities=True)  # before the data is gone, and the run elsewhere
    for name in ("rows.csv", "config.yaml"):
        Path(name).unlink(missing_ok=True)
    shutil.move("runs", "elsewhere")
    train_here(
        "predict", "--run", f"elsewhere/{kind}", "--input", "new.csv", "--output", "p.csv", "--probabilities", "true"
    )
    train_here(
        "predict",
        "--run",
        f"elsewhere/{kind}",
        "--input",
        "new.parquet",
        "--output",
        "p.parquet",
        "--probabilities",
        "true",
    )
    written = pl.read_csv("p.csv")
    assert written["row"].to_list() == list(range(12))
    assert largest_difference(together, written.select(together.columns), std) < 1e-5
    assert largest_difference(together, pl.read_parquet("p.parquet").select(together.columns), std) < 1e-5
    assert len(own) == 90

    inputs = run.read(run.rows("new.csv"), torch.arange(12))
    export(run, "onnx", Path("net.onnx"), inputs)
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    given = {each.name: each for each in session.get_inputs()}
    arrays = (
        {name: x.numpy() for name, x in inputs.items()}
        if isinstance(inputs, dict)
        else {next(iter(given)): inputs.numpy()}
    )
    found = dict(zip([each.name for each in session.get_outputs()], session.run(None, arrays), strict=True))
    assert np.abs(found["weight"] - together["weight (g)"].to_numpy()).max() / std["weight (g)"] < 1e-4
    probabilities = together.select([f"kind_probability_{name}" for name in ("ant", "bee", "cat")]).to_numpy()
    assert np.abs(found["kind"] - probabilities).max() < 1e-4
