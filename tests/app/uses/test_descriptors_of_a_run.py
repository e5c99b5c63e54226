"""A trained network keeps the descriptions of its tasks, and reads those of its rows."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rows import LENET, configuration

from app.runs import load_run


@pytest.mark.parametrize("by", ["row", "file"])
def test_trained_network_needs_no_file_and_reads_the_modality(train_here: Callable, by: str) -> None:
    content = yaml.safe_load(configuration("both" if by == "row" else "images").read_text())
    Path("z.yaml").write_text(
        yaml.safe_dump({task: [i, 1.0] for i, task in enumerate(("kind", "old", "weight", "tags"))})
    )
    options = {"modality": "features"} if by == "row" else {"descriptor": "z.yaml", "width": 2}
    content["model"] = {"backbone": LENET, "sharing": {"class_path": "Conditioned", "init_args": options}}
    Path("run.yaml").write_text(yaml.safe_dump({**content, "name": "run"}))
    train_here("fit", "--config", "run.yaml")
    before = load_run("runs/run").predict("rows.csv", probabilities=True)
    Path("z.yaml").unlink()
    run = load_run("runs/run")
    assert before.equals(run.predict("rows.csv", probabilities=True))
    if by == "file":
        assert run.network.sharing.described["old"].values.tolist() == [1.0, 1.0]
    train_here("export", "--run", "runs/run", "--format", "torch", "--output", "net.pt2", "--overwrite", "true")
