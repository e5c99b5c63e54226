"""In which direction a curve is better, where its metric does not say."""

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import SMALL, scalars
from optuna.study import StudyDirection

from app.measuring.monitoring import direction

CURVES = {"loss/val/total": False, "accuracy/val/kind": True, "r/val/mass": None}
PEARSON = ["--model.tasks.sum.metrics", "{r: {class_path: torchmetrics.PearsonCorrCoef}}", "--monitor", "r/val/sum"]


@pytest.mark.parametrize(
    ("monitor", "mode", "expected"),
    [
        ("loss/val/total", None, False),
        ("accuracy/val/kind", None, True),
        ("accuracy/val/kind", "min", False),
        ("r/val/mass", "max", True),
        ("r/val/mass", "min", False),
    ],
)
def test_the_option_decides_or_else_the_metric(monitor: str, mode: str | None, expected: bool) -> None:
    assert direction(monitor, mode, CURVES) is expected


def test_a_curve_without_direction_is_refused() -> None:
    message = (
        r"^monitor_mode: must be min or max for r/val/mass, whose metric does not say which is better, found null$"
    )
    with pytest.raises(ValueError, match=message):
        direction("r/val/mass", None, CURVES)


def test_a_curve_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^monitor: must be one of loss/val/total, .*, found 'r/val/kind'$"):
        direction("r/val/kind", "max", CURVES)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "--patience", "2"],
        ["search", "--search.space", "{model.optimizer.init_args.lr: {low: 0.001, high: 0.01}}"],
    ],
    ids=["fit", "patience", "search"],
)
def test_a_run_is_refused_in_one_line(
    train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture, arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_here(*arguments, "--config", str(SMALL), *PEARSON)
    assert stopped.value.code == 2
    message = capfd.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: monitor_mode: must be min or max for r/val/sum")
    assert not list(tmp_path.glob("runs/*/*/checkpoints"))


@pytest.mark.parametrize(("mode", "best"), [("max", max), ("min", min)])
def test_the_best_checkpoint_is_that_of_the_mode(
    train_here: Callable, tmp_path: Path, mode: str, best: Callable
) -> None:
    train_here("fit", "--config", str(SMALL), *PEARSON, "--monitor_mode", mode, "--trainer.max_epochs", "2")
    folder = tmp_path / "runs/small/version_0"
    values = [value for _, value in scalars(folder)["r/val/sum"]]
    assert len(set(values)) == 2
    found = json.loads((folder / "results.json").read_text())["best"]["r/val/sum"]
    assert found == pytest.approx(best(values), rel=1e-5)


@pytest.mark.slow
def test_a_search_goes_by_the_mode(train_here: Callable, tmp_path: Path) -> None:
    space = "{data.sampling.init_args.batch_size: {choices: [125, 250]}}"
    train_here(
        "search", "--config", str(SMALL), *PEARSON, "--monitor_mode", "max", "--search.space", space,
        "--search.trials", "1", "--search.folds", "{k: 2}", "--trainer.max_epochs", "1",
    )  # fmt: skip
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/runs/small/search.db")
    assert study.direction == StudyDirection.MAXIMIZE
    assert "monitor_mode: max" in (tmp_path / "runs/small/search/best.yaml").read_text()
