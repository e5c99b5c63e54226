"""What schemes have learned, in event files and in the last lines of a run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars
from resuming import fit, kill_and_resume
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.measuring.gate_usage import GateUsage, GateWatch
from app.reports.learned import learned_lines
from models.learned import Gates, Learned
from models.sharing.experts import Gate

MMOE = ["--model.sharing", "MMoE", "--model.sharing.experts", "3"]
TASKS = ["left", "right", "sum", "parity"]


def images(folder: Path) -> dict[str, int]:
    """Tag → how many pictures."""
    files = [EventAccumulator(str(file), size_guidance={"images": 0}).Reload() for file in folder.glob("events*")]
    return {tag: len(file.Images(tag)) for file in files for tag in file.Tags()["images"]}


def test_weights_of_gates_are_means_over_the_rows_of_each_stage(
    train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cli = train_here("fit", "--config", str(SMALL), *MMOE, "--trainer.max_epochs", "2", "--data.eval_batch_size", "24")
    folder = tmp_path / "runs/small/version_0"
    curves = scalars(folder)
    for stage, count in {"train": 2, "val": 2, "test": 1}.items():
        for task in TASKS:
            experts = [dict(curves[f"sharing/gates/{stage}/{task}/expert {number}"]) for number in range(3)]
            assert all(len(each) == count for each in experts)
            assert sum(each[15] for each in experts) == pytest.approx(1, abs=1e-6)
        assert images(folder)[f"sharing/gates/{stage}"] == count
    assert not any(len(each._forward_hooks) for each in cli.model.network.sharing.gates.values())
    rows = torch.cat([batch.inputs for batch in cli.datamodule.test_dataloader()])
    for task in TASKS:
        means = cli.model.network.sharing.gates[task](rows.flatten(1)).mean(dim=0)
        for number in range(3):
            ((_, shown),) = curves[f"sharing/gates/test/{task}/expert {number}"]
            assert shown == pytest.approx(means[number].item(), abs=1e-5)
    printed = capsys.readouterr().out
    assert "sharing/gates/test:" in printed


def test_matrices_and_trees_are_shown(train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_here("fit", "--config", str(SMALL), "--model.sharing", "CrossStitch", "--name", "stitched",
               "--trainer.max_epochs", "1")  # fmt: skip
    folder = tmp_path / "runs/stitched/version_0"
    assert 0.5 < scalars(folder)["sharing/alpha/1/left/left"][0][1] < 1.2
    assert {f"sharing/alpha/{stage}" for stage in range(3)} <= images(folder).keys()
    assert "sharing/alpha/2:" in capsys.readouterr().out
    train_here("fit", "--config", str(SMALL), "--model.sharing", "Sluice", "--name", "sluice",
               "--trainer.max_epochs", "1")  # fmt: skip
    assert {"sharing/alpha/0", "sharing/beta"} <= images(tmp_path / "runs/sluice/version_0").keys()
    assert "sharing/beta:" in capsys.readouterr().out
    train_here("fit", "--config", str(SMALL), "--model.sharing", "Branching", "--name", "tree", "--model.sharing.tree",
               "{2: [[left, sum], [right, parity]]}", "--trainer.max_epochs", "1")  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("sharing/tree:")
    assert [line.split() for line in lines[place + 1 : place + 5]] == [
        TASKS,
        ["stage", "0", "0", "0", "0", "0"],
        ["stage", "1", "0", "0", "0", "0"],
        ["stage", "2", "0", "1", "0", "1"],
    ]


def test_a_second_look_at_a_batch_in_training_is_not_counted() -> None:
    gate, rows = Gate(4, 2), torch.randn(5, 4)
    watch = GateWatch([gate])
    gate(rows)
    with torch.no_grad():
        gate(rows)
    assert [len(weights) for _, weights in watch.take()] == [5]
    gate.eval()
    with torch.no_grad():
        gate(rows)
    assert [len(weights) for _, weights in watch.take()] == [5]
    watch.close()
    gate(rows)
    assert not watch.take()


def test_gates_that_no_row_passed_have_no_number() -> None:
    usage = GateUsage({"gates": Gates({"left": Gate(4, 2), "right": Gate(4, 2)}, ["a", "b"])})
    usage.update([(1, torch.tensor([[0.25, 0.75]]))])
    assert learned_lines(usage.compute()) == [
        "gates:",
        "            a     b",
        "  left             ",
        "  right  0.25  0.75",
    ]
    assert learned_lines({"zero": Learned(torch.tensor(3.0))}) == ["zero: 3"]


@pytest.mark.slow
def test_what_gates_gave_goes_on_in_the_middle_of_an_epoch(train: Train, train_here: Callable) -> None:
    options = [*MMOE, "--trainer.max_epochs", "3"]
    train_here(*fit("whole", *options))
    kill_and_resume(train, train_here, options, 13)


@pytest.mark.slow
def test_two_ranks_show_what_one_shows(train: Train, train_here: Callable, tmp_path: Path) -> None:
    batches = ["--trainer.max_epochs", "1", "--model.backbone.init_args.dropout", "0", "--trainer.precision", "64-true"]
    exact = ["fit", "--config", str(SMALL), *MMOE, *batches, "--model.optimizer", "SGD"]
    train_here(*exact, "--name", "one")
    train(*exact, "--name", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.sampling.batch_size",
          "16")  # fmt: skip
    one, two = (scalars(tmp_path / f"runs/{name}/version_0") for name in ("one", "two"))
    shown = [tag for tag in one if tag.startswith("sharing/gates/")]
    assert len(shown) == 3 * 4 * 3
    for tag in shown:
        assert dict(one[tag]) == pytest.approx(dict(two[tag]), abs=1e-6), tag
