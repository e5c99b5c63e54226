"""A schedule on the command line: what is printed, what is shown, what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, scalars
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RUN = ["--config", str(SMALL), "--trainer.limit_val_batches", "1"]
LAYERS = [f"backbone.stage{i}" for i in range(3)] + [f"heads.{task}" for task in ("left", "right", "sum", "parity")]


def test_printed_schedule_is_a_fragment_that_runs_the_same(
    train_here: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    gradual = ["--schedule", "{preset: gradual_unfreeze, phases: 3}", "--model.layers.decay", "0.5"]
    train_here("layers", *RUN, *gradual)
    printed = capsys.readouterr().out
    rows = [line.removeprefix("# ").split() for line in printed.splitlines() if line.startswith("#")]
    *rows, _ = rows  # the multiply-adds
    assert rows[0] == ["layer", "parameters", "shared", "rate"]
    assert [row[0] for row in rows[1:-1]] == LAYERS
    assert [row[2] for row in rows[1:]] == ["100%"] * 3 + ["0%"] * 4 + [rows[-1][2]]
    assert [row[3] for row in rows[1:-1]] == ["0.125", "0.25", "0.5", "1", "1", "1", "1"]
    assert sum(int(row[1].replace(",", "")) for row in rows[1:-1]) == int(rows[-1][1].replace(",", ""))
    assert [phase["name"] for phase in yaml.safe_load(printed)["schedule"]] == [
        "heads",
        "from backbone.stage1",
        "from backbone.stage0",
    ]
    Path("edited.yaml").write_text(printed)
    train_here("fit", *RUN, *gradual, "--name", "preset")
    train_here("fit", *RUN, "--config", "edited.yaml", "--model.layers.decay", "0.5", "--name", "edited")
    preset, edited = (
        torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("preset", "edited")
    )
    assert all(torch.equal(value.nan_to_num(), edited[name].nan_to_num()) for name, value in preset.items())


def test_layers_without_a_schedule_are_listed_alone(train_here: Callable, capsys: pytest.CaptureFixture) -> None:
    train_here("layers", *RUN)
    assert all(line.startswith("#") for line in capsys.readouterr().out.splitlines())


def test_rates_are_scheduler_times_layer_times_phase(train_here: Callable) -> None:
    """And the scheduler sees only its own: the base rate is the same whatever the factors."""
    schedule = "[{train: ['heads.*'], until_step: 12}, {train: ['*'], rates: {'backbone.*': 0.1, heads.sum: 2}}]"
    rates = ["--model.layers.decay", "0.5", "--model.tasks.left.rate", "3"]
    cli = train_here("fit", *RUN, "--schedule", schedule, *rates)
    points = scalars(Path("runs/small/version_0"))
    base = dict(points["lr/step/heads.right"])
    for layer, before, after in (
        ("backbone.stage0", 0, 0.125 * 0.1),
        ("backbone.stage2", 0, 0.5 * 0.1),
        ("heads.left", 3, 3),
        ("heads.sum", 1, 2),
    ):
        for step, rate in points[f"lr/step/{layer}"]:
            assert rate == pytest.approx(base[step] * (before if step < 12 else after), rel=1e-6), (layer, step)
    assert base[3] == pytest.approx(0.003)  # after the warm-up
    assert len({group["lr"] for group in cli.trainer.optimizers[0].param_groups}) == 1


def test_curves_of_layers(train_here: Callable) -> None:
    train_here("fit", *RUN, "--schedule", "[{name: probe, train: ['heads.*'], until_step: 12}, {train: ['*']}]")
    folder = Path("runs/small/version_0")
    points = scalars(folder)
    assert [value for _, value in points["phase/step"]] == [1.0] * 12 + [2.0] * 20
    trainable = dict(points["trainable/step/backbone.stage0"])
    assert (trainable[11], trainable[12]) == (0, 80)
    changes = dict(points["update_norm/step/backbone.stage0"])
    assert all((change > 0) == (step >= 12) for step, change in changes.items())
    assert min(change for _, change in points["update_norm/step/heads.left"]) > 0
    first = min(folder.glob("events*"), key=lambda path: path.stat().st_mtime)
    events = EventAccumulator(str(first), size_guidance={"tensors": 0}).Reload().Tensors("phase/text_summary")
    texts = [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]
    assert [step for step, _ in texts] == [0, 12]
    assert texts[0][1].startswith("phase 1 of 2 'probe' trains 374 parameters: heads.left")


def test_weight_decay_leaves_vectors_alone(train_here: Callable) -> None:
    cli = train_here("fit", *RUN, "--trainer.max_epochs", "1", "--model.optimizer.weight_decay", "0.3")
    for group in cli.trainer.optimizers[0].param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] == 0.3}
    grouped = {id(p) for group in cli.trainer.optimizers[0].param_groups for p in group["params"]}
    assert grouped == {id(p) for p in cli.model.parameters()}


def test_patience_of_the_run_waits_for_the_last_phase(train_here: Callable) -> None:
    schedule = "[{train: ['heads.*'], patience: 2}, {train: ['*']}]"
    train_here("fit", *RUN, "--schedule", schedule, "--patience", "2", "--monitor", "accuracy/val/right")
    phases = [phase for _, phase in scalars(Path("runs/small/version_0"))["phase/step"]]
    assert phases == [1.0] * 24 + [2.0] * 8  # the curve is flat; three epochs, and then the last phase


def test_a_trial_run_takes_the_schedule_as_it_is(train_here: Callable) -> None:
    train_here("fit", *RUN, "--schedule", "gradual_unfreeze", "--trainer.fast_dev_run", "1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--schedule", "gradual"], ["schedule", "gradual"]),
        (["--schedule", "[{train: [heads.lefd], until_epoch: 1}, {train: ['*']}]"], ["heads.lefd", "heads.left"]),
        (["--schedule", "[{train: []}]"], ["schedule[0].train", "[]"]),
        (["--schedule", "[{train: ['*'], until_epoch: 9}, {train: ['*']}]"], ["schedule[0].until_epoch", "4", "9"]),
        (["--schedule", "[{train: ['*'], until_step: 32}, {train: ['*']}]"], ["schedule[0].until_step", "32"]),
        (["--schedule", "[{train: ['*'], rates: {heads.sum: 0}}]"], ["schedule[0].rates", "0"]),
        (["--schedule", "[{train: ['*'], patience: 1}, {train: ['*']}]", "--trainer.limit_val_batches", "0"],
         ["schedule[0].patience", "trainer.limit_val_batches"]),
        (["--schedule", "freeze_then_unfreeze", "--trainer.max_steps", "8"], ["2 phases", "the run has 1 epochs"]),
        (["--schedule", "[{train: ['*'], patience: 1, restore_best: true}, {train: ['*']}]",
          "--trainer.callbacks+=EMA"], ["schedule[0].restore_best", "average"]),
        (["--trainer.callbacks+=EMA", "--trainer.callbacks+=SWA"], ["trainer.callbacks", "EMA", "SWA"]),
        (["--model.layers.decay", "0"], ["model.layers.decay", "greater than 0", "0"]),
        (["--model.tasks.left.rate", "-1"], ["model.tasks.left.rate", "greater than 0", "-1"]),
    ],
)  # fmt: skip
def test_refused(train_here: Callable, capsys: pytest.CaptureFixture, options: list[str], words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_here("fit", *RUN, *options)
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in message for word in ["error: ", *words]), message
