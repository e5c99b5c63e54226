"""What a user gets wrong ends before training in one clear last line, and exit code 2."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train

NAN_INPUT = """
import torch
from datamodules.sources import Digits, Source, TensorSplit
from datamodules.targets import Categorical

class Broken(Source):
    def __init__(self, how: str = ""):
        self.how, self.digits = how, Digits(train_pairs=20, val_pairs=10, test_pairs=10)
        self.targets = {"left": Categorical(("zero", "one") if how == "class" else tuple("0123456789"))}

    def split(self, name):
        whole = self.digits.split(name)
        inputs, left = whole.inputs.clone(), whole._labels["left"].clone()
        labelled = torch.ones(len(whole), dtype=torch.bool)
        if self.how == "input":
            inputs[7, 0, 3, 3] = float("nan")
        if self.how == "target":
            left = left.float()
            left[5] = float("nan")
        if self.how == "unlabelled":
            labelled[:] = False
        if self.how == "empty" and name == "val":
            inputs, left, labelled = inputs[:0], left[:0], labelled[:0]
        return TensorSplit(inputs, {"left": left}, {"left": labelled})
"""


def broken(how: str) -> list[str]:
    return ["--data.sources", f"{{mine: {{class_path: broken.Broken, init_args: {{how: {how}}}}}}}"]


TIMM = ["--model.backbone", "TimmBackbone"]
CASES = {
    "unknown key": (["--model.sharring", "HardSharing"], ["model.sharring", "model.sharing"]),
    "unknown nested key": (["--model.backbone.init_args.width", "3"], ["model.backbone", "width"]),
    "unknown class": (["--model.backbone", "models.backbones.LeNett"], ["model.backbone", "LeNett"]),
    "wrong type": (["--data.eval_batch_size", "many"], ["data.eval_batch_size", "many"]),
    "unknown timm model": ([*TIMM, "--model.backbone.name", "resnet81"], ["backbone.name", "'resnet81'", "resnet18"]),
    "missing weights": (
        [*TIMM, "--model.backbone.name", "resnet10t", "--model.backbone.weights", "nowhere.pth"],
        ["backbone.weights", "nowhere.pth"],
    ),
    "NaN in inputs": (broken("input"), ["mine", "train", "row 7", "input"]),
    "NaN in targets": (broken("target"), ["mine", "train", "row 5", "left", "nan"]),
    "label outside its classes": (broken("class"), ["mine", "train", "row", "left", "0 to 1"]),
    "empty split": (broken("empty"), ["mine", "val", "at least one row"]),
    "task without a label": (broken("unlabelled"), ["left", "train", "label"]),
    "batch size 0": (["--data.sampling.batch_size", "0"], ["data.sampling.batch_size", "at least 1", "0"]),
    "negative weight": (["--model.tasks.left.weight", "-1"], ["model.tasks.left.weight", "negative", "-1"]),
    "unknown task": (["--model.tasks.middle.weight", "1"], ["model.tasks", "middle", "left"]),
    "unknown monitor": (["--monitor", "accuracy/val/middle"], ["monitor", "accuracy/val/middle", "accuracy/val/left"]),
    "nothing to go on from": (["--ckpt_path", "last"], ["ckpt_path", "'last'", "small", "found none"]),
    "missing checkpoint": (["--ckpt_path", "nowhere.ckpt"], ["ckpt_path", "nowhere.ckpt"]),
    "negative seed": (["--seed_everything", "-1"], ["seed_everything", "-1"]),
    "half precision": (["--trainer.precision", "bf16-true"], ["trainer.precision", "bf16-mixed"]),
    "part of an epoch": (["--trainer.limit_train_batches", "2.5"], ["limit_train_batches", "2.5"]),
    "patience without validation": (["--patience", "1", "--trainer.limit_val_batches", "0"], ["patience", "1"]),
    "no seed": (["--seed_everything", "true"], ["seed_everything", "integer"]),
    "negative warm-up": (["--model.lr_scheduler.warmup_steps", "-1"], ["warmup_steps", "negative", "-1"]),
    "save never": (["--save_every_n_steps", "0"], ["save_every_n_steps", "at least 1", "0"]),
    "name outside": (["--name", "../mine"], ["name", "runs/", "../mine"]),
    "typo in a source": (["--data.sources", "{d: {class_path: Digits, init_args: {pairs: 3}}}"], ["'pairs'", "Digits"]),
    "typo of a class": (["--data.sampling", "Sharde"], ["data.sampling", "found Sharde; near it: Shared"]),
    "bad option of a class": (["--data.sampling", "{class_path: PerTask, init_args: {epoch_length: 0}}"],
                              ["data.sampling.epoch_length: must be at least 1, found 0"]),
    "overfit_batches": (["--trainer.overfit_batches", "2"], ["trainer.overfit_batches", "limit_train_batches"]),
}  # fmt: skip


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("case", CASES)
def test_refused(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch, case: str) -> None:
    (tmp_path / "broken.py").write_text(NAN_INPUT)
    monkeypatch.syspath_prepend(tmp_path)
    arguments, words = CASES[case]
    with pytest.raises(SystemExit) as stopped:
        train_here("fit", "--config", str(SMALL), *arguments)
    assert stopped.value.code == 2
    message = last_line(capfd.readouterr().err)
    assert message.startswith("error: ")
    for word in words:
        assert word in message


def test_weights_that_do_not_fit(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(SystemExit):
        train_here("fit", "--config", str(SMALL), *TIMM, "--model.backbone.name", "resnet10t",
                   "--model.backbone.weights", str(tmp_path / "other.pth"))  # fmt: skip
    message = last_line(capfd.readouterr().err)
    assert "other.pth" in message
    assert "missing" in message
    assert "[3, 3]" in message


def test_pretrained_without_network(train: Train) -> None:
    resnet = [*TIMM, "--model.backbone.name", "resnet18", "--model.backbone.pretrained", "true"]
    done = train("fit", "--config", str(SMALL), *resnet, code=2)
    assert "backbone.pretrained" in last_line(done.stderr)
    assert "resnet18" in last_line(done.stderr)


class Foreign:
    def __reduce__(self):
        return os.mkdir, ("its_code_ran",)


@pytest.mark.parametrize("subcommand", ["fit", "test"])
def test_checkpoint_with_foreign_code_is_refused(
    train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture, subcommand: str
) -> None:
    torch.save({"state_dict": Foreign()}, tmp_path / "foreign.ckpt")
    with pytest.raises(SystemExit) as stopped:
        train_here(subcommand, "--config", str(SMALL), "--ckpt_path", "foreign.ckpt")
    assert stopped.value.code == 2
    assert "was not run" in last_line(capfd.readouterr().err)
    assert not (tmp_path / "its_code_ran").exists()
    with (tmp_path / "foreign.ckpt").open("rb") as file:  # the file is a working attack
        torch.load(file, weights_only=False)
    assert (tmp_path / "its_code_ran").exists()


def test_pickle_that_is_no_checkpoint(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(SystemExit) as stopped:
        train_here("test", "--config", str(SMALL), "--ckpt_path", "plain.ckpt")
    assert stopped.value.code == 2
    assert "plain.ckpt" in last_line(capfd.readouterr().err)
    assert not (tmp_path / "its_code_ran").exists()
