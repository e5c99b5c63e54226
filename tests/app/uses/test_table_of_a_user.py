"""A table as a user has it: dates, names in any script, rare positives, many empty cells."""

import csv
import json
import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from rows import MLP, TRAINER

ROWS = 800
NAMES = ["Zoë", "Łukasz", "Ахмед", "陳大文", "O'Neil", "Müller; Söhne"]


@pytest.fixture
def table(train_here: Callable) -> None:
    draw = random.Random(0)
    rows = []
    for row in range(ROWS):
        day, income = date(2015, 1, 1) + timedelta(days=draw.randrange(3000)), draw.gauss(3000, 900)
        churned = draw.random() < (0.6 if day.year >= 2022 and income < 3000 else 0.01)
        rows.append(
            {
                "Kunde · 顧客": draw.choice(NAMES),
                "заведено": day.isoformat(),
                "income (€)": None if draw.random() < 0.2 else round(income, 2),
                "spent": round(income / 10 + row, 2),
                "abgewandert": "ja" if churned else "nein",
            }
        )
    pl.DataFrame(rows).write_csv("kunden.csv")
    config = {
        "name": "kunden",
        "data": {
            "sources": {"kunden": {"class_path": "Table", "init_args": {
                "path": "kunden.csv", "features": ["Kunde · 顧客", "заведено", "income (€)", "spent"],
                "targets": {"abgewandert": None}}}},
            "sampling": {"class_path": "Shared", "init_args": {"batch_size": 32}},
        },
        "model": {"backbone": MLP, "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.01}}},
        "trainer": TRAINER | {"max_epochs": 8},
    }  # fmt: skip
    Path("kunden.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))


@pytest.mark.usefixtures("table")
def test_such_a_table_is_warned_of_learned_and_used(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    positives = pl.read_csv("kunden.csv")["abgewandert"].eq("ja").mean()
    assert 0.04 < positives < 0.08
    train_here("data", "--config", "kunden.yaml")
    said = capfd.readouterr().out
    assert "warning: task 'abgewandert': rare in training: class 'ja' with " in said
    assert re.search(r"^warning: income \(€\) is empty in (1[5-9]|2\d)\.\d% of training", said, re.MULTILINE)
    parts = ", ".join(f"заведено {part}" for part in ("year", "month", "weekday", "elapsed"))
    assert f"заведено has dates: the inputs are {parts}" in said

    train_here("fit", "--config", "kunden.yaml")
    run = Path("runs/kunden/version_0")
    figures = json.loads((run / "results.json").read_text())["tasks"]["abgewandert"]
    assert {"auroc", "average_precision"} <= figures.keys()
    assert figures["auroc"] > 0.8
    assert "rare in training" in capfd.readouterr().out

    train_here("predict", "--run", str(run), "--input", "kunden.csv", "--output", "alle.csv")
    with Path("alle.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS
    assert {row["abgewandert"] for row in rows} <= {"ja", "nein"}
