"""Ways to train that work although peers fail there, or are refused at the start."""

import csv
import json
from pathlib import Path

import pytest
from conftest import SMALL, Train
from PIL import Image

FIT = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1"]


def test_ddp_on_one_device_under_a_method_on_features(train: Train, tmp_path: Path) -> None:
    """The reducer waits for no parameter: it takes no part."""
    train(*FIT, "--trainer.strategy", "ddp", "--trainer.devices", "1", "--model.balancer", "UPGrad",
          "--model.gradients.level", "features")  # fmt: skip
    assert (tmp_path / "runs/small/version_0/results.json").exists()


@pytest.mark.slow
def test_synchronised_batch_normalisation_is_refused(train: Train, tmp_path: Path) -> None:
    done = train(
        *FIT, "--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.sync_batchnorm", "true", code=2
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2, done.stderr  # one a process
    assert all(line.startswith("error: trainer.sync_batchnorm: must be false") for line in lines)
    assert not (tmp_path / "runs").exists()


def test_a_training_that_cannot_be_tested_keeps_its_results(train: Train, tmp_path: Path) -> None:
    """One image of the test split is broken, which nobody has read before."""
    rows = []
    for number, split in enumerate(["train"] * 8 + ["val"] * 4 + ["test"] * 4):
        Image.new("L", (12, 12), 30 * (number % 2)).save(tmp_path / f"{number}.png")
        rows.append([f"{number}.png", number % 2, split])
    whole = (tmp_path / "14.png").read_bytes()
    (tmp_path / "14.png").write_bytes(whole[: len(whole) // 2])
    with (tmp_path / "dots.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "bright", "part"], *rows])
    source = {"path": "dots.csv", "image": "image", "targets": {"bright": None}, "split": "part"}
    dots = {"class_path": "Table", "init_args": source}
    done = train(*FIT, "--data.sources", json.dumps({"dots": dots}), "--data.sampling.batch_size", "4", code=2)
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "14.png" in line
    run = "runs/small/version_0"
    again = f"train.py test --config {run}/config.yaml --ckpt_path {run}/checkpoints/best.ckpt"
    assert f"The run is trained and saved; `{again}` tests it" in done.stderr
    results = json.loads((tmp_path / "runs/small/version_0/results.json").read_text())
    assert results["tasks"] == {}
    assert results["checkpoint"] == "checkpoints/best.ckpt"
    assert list(results["best"]) == ["loss/val/total"]
