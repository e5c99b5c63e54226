"""Averages of weights: what they are, and who uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, scalars
from torch import Tensor

EMA = ["--trainer.callbacks+=EMA", "--trainer.callbacks.decay", "0.8"]
SWA = ["--trainer.callbacks+=SWA", "--trainer.callbacks.start_epoch", "1"]
RESNET = ["--model.backbone", "TimmBackbone", "--model.backbone.name", "test_resnet",
          "--data.sources.digits.init_args",
          "{train_pairs: 96, val_pairs: 32, test_pairs: 32}"]  # fmt: skip


def fit(name: str, *options: str) -> list[str]:
    return ["fit", "--config", str(SMALL), "--name", name, "--trainer.max_epochs", "3", *options]


def saved(name: str, which: str = "last") -> dict:
    return torch.load(f"runs/{name}/version_0/checkpoints/{which}.ckpt", weights_only=True)


def flat(state: dict[str, Tensor], like: list[str]) -> Tensor:
    return torch.cat([state[name].flatten() for name in like])


def learned(state: dict[str, Tensor]) -> list[str]:
    """Names of the parameters and the running statistics, in the order of `spies.RecordSteps`."""
    ours = [
        name for name in state if name.startswith(("network.sharing.", "network.heads.")) and "num_batches" not in name
    ]
    return [name for name in ours if "running" not in name] + [name for name in ours if "running" in name]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(x.nan_to_num(), other[n].nan_to_num()) for n, x in one.items()
    )


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_checkpoints_and_validation_have_the_average(train_here: Callable, kind: str) -> None:
    """Of parameters and running statistics, in the run's precision; the network goes on with its own."""
    record = ["--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.folder", ".",
              "--trainer.callbacks.parameters", "true"]  # fmt: skip
    options = [*RESNET, "--trainer.precision", "64-true", *(EMA if kind == "ema" else SWA)]
    train_here(*fit("run", *options, *record))
    kept = torch.load("parameters-0.pt")  # [steps, P]
    per_epoch = len(kept) // 3
    if kind == "ema":
        average = kept[0]
        for weights in kept[1:]:
            average = 0.8 * average + 0.2 * weights
    else:
        average = (kept[2 * per_epoch - 1] + kept[-1]) / 2
    last = saved("run")
    names = learned(last["state_dict"])
    assert (flat(last["state_dict"], names) - average).abs().max() <= 1e-12
    assert (average - kept[-1]).abs().max() > 1e-4
    assert torch.equal(flat(last["current_model_state"], names), kept[-1])
    counts = [x for name, x in last["state_dict"].items() if "num_batches" in name]
    assert {int(x) for x in counts} == {len(kept)}

    options = fit("run", *RESNET, "--trainer.precision", "64-true")[1:]  # the best checkpoint
    curve = dict(scalars(Path("runs/run/version_0"))["loss/val/total"])
    validated = train_here("validate", *options).trainer.callback_metrics["loss/val/total"]
    assert float(validated) == pytest.approx(curve[saved("run", "best")["global_step"] - 1], rel=1e-5)
    tested = train_here("test", *options).trainer.callback_metrics["mae/test/sum"]
    results = json.loads(Path("runs/run/version_0/results.json").read_text())
    assert results["tasks"]["sum"]["mae"] == pytest.approx(float(tested), 1e-6)


def test_nothing_is_averaged_before_the_first_epoch_that_counts(train_here: Callable) -> None:
    late = ["--trainer.callbacks+=SWA", "--trainer.callbacks.start_epoch", "2"]
    train_here(*fit("late", *late))
    train_here(*fit("plain"))
    found, expected = (dict(scalars(Path(f"runs/{name}/version_0"))["loss/val/total"]) for name in ("late", "plain"))
    assert found == expected  # the first average is of one epoch
    last = saved("late")
    assert same(last["state_dict"], last["current_model_state"])


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_killed_run_goes_on_with_weights_and_average(train_here: Callable, kind: str) -> None:
    options = [*(EMA if kind == "ema" else SWA), "--save_every_n_steps", "3"]
    train_here(*fit("whole", *options))
    fail = ["--trainer.callbacks+=spies.FailAt", "--trainer.callbacks.epoch", "2", "--trainer.callbacks.batch", "6"]
    with pytest.raises(SystemExit):
        train_here(*fit("stopped", *options, *fail))
    assert saved("stopped")["global_step"] == 21  # 5 of 8 steps into the third epoch
    train_here(*fit("stopped", *options, "--ckpt_path", "last"))
    whole, stopped = saved("whole"), saved("stopped")
    for state in ("state_dict", "current_model_state"):
        assert same(whole[state], stopped[state]), state
    assert not same(whole["state_dict"], whole["current_model_state"])


def test_average_of_what_is_frozen_is_what_is_frozen(train_here: Callable) -> None:
    """Bit for bit; and what starts from a run with an average starts from the average."""
    train_here(*fit("first", *RESNET, *EMA))
    start = ["--model.init_from", "runs/first/version_0/checkpoints/last.ckpt"]
    train_here(*fit("probe", *RESNET, *EMA, *start, "--schedule", "linear_probe"))
    first, probe = saved("first")["state_dict"], saved("probe")["state_dict"]
    trunk = [name for name in first if name.startswith("network.sharing.")]
    assert all(torch.equal(first[name], probe[name]) for name in trunk)
    assert not same(first, probe)


def test_loss_scale_changes_no_average(train_here: Callable) -> None:
    for name, scale in (("one", 1), ("large", 2.0**12)):
        scaler = f"{{class_path: torch.amp.GradScaler, init_args: {{device: cpu, init_scale: {scale}}}}}"
        plugin = f"[{{class_path: MixedPrecision, init_args: {{precision: 16-mixed, device: cpu, scaler: {scaler}}}}}]"
        train_here(*fit(name, "--trainer.plugins", plugin, *EMA, "--model.optimizer", "SGD", "--model.optimizer.lr",
                        "0.1"))  # fmt: skip
    one, large = saved("one")["state_dict"], saved("large")["state_dict"]
    names = learned(one)
    assert (flat(one, names) - flat(large, names)).abs().max() <= 1e-3


def test_two_ranks_start_thaw_and_average_alike(train: Train, train_here: Callable, tmp_path: Path) -> None:
    train_here(*fit("first", *RESNET, "--trainer.max_epochs", "1"))
    start = ["--model.init_from", "runs/first/version_0/checkpoints/last.ckpt", "--model.reset_layers", "1"]
    pulled = ["--trainer.callbacks+=L2SP", "--trainer.callbacks.alpha", "0.1"]
    end = ["--trainer.callbacks+=spies.SaveEnd", "--trainer.callbacks.folder", str(tmp_path)]
    train(*fit("two", *RESNET, *start, *EMA, *pulled, *end, "--schedule", "{preset: gradual_unfreeze, phases: 3}",
               "--trainer.devices", "2", "--trainer.strategy", "ddp"))  # fmt: skip
    ends = [torch.load(tmp_path / f"end-{rank}.pt") for rank in range(2)]
    assert same(*ends)
    last = saved("two")
    assert same(ends[0], last["state_dict"])
    assert not same(last["state_dict"], last["current_model_state"])


BAD = {
    "decay": (["--trainer.callbacks+=EMA", "--trainer.callbacks.decay=1"], "EMA.decay: must be in [0, 1), found 1.0"),
    "negative": (["--trainer.callbacks+=SWA", "--trainer.callbacks.start_epoch=-1"], "SWA.start_epoch: must not be"),
    "late": (["--trainer.callbacks+=SWA", "--trainer.callbacks.start_epoch=3"], "the run's 3 epochs, found 3"),
    "endless": (["--trainer.callbacks+=SWA", "--trainer.max_epochs=-1"], "must be given for"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_option_is_one_line(train_here: Callable, capfd: pytest.CaptureFixture, case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(SystemExit, match="2"):
        train_here(*fit("bad", *options))
    assert message in capfd.readouterr().err.splitlines()[-1]
