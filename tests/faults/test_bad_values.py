"""Bad values of a configuration: each ends in one line that names its key, before the first step."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

LR, WIDTHS = "model.optimizer.init_args.lr", "model.backbone.init_args.widths"
WARMUP = "model.lr_scheduler.init_args.warmup_steps"
SIZE, PAIRS = "data.sampling.init_args.batch_size", "data.sources.digits.init_args"

# What is changed on the command line | what the line must have, its key first.
CASES = """
trainer.accumulate_grad_batches=0 | trainer.accumulate_grad_batches: must be at least 1, found 0
trainer.accumulate_grad_batches=-2 | trainer.accumulate_grad_batches: must be at least 1, found -2
trainer.val_check_interval=0 | trainer.val_check_interval: must be greater than 0, found 0
trainer.val_check_interval=-1 | trainer.val_check_interval: must be greater than 0, found -1
trainer.val_check_interval=1.5 | val_check_interval 1.5
trainer.check_val_every_n_epoch=0 | trainer.check_val_every_n_epoch: must be at least 1, found 0
trainer.check_val_every_n_epoch=-1 | trainer.check_val_every_n_epoch: must be at least 1, found -1
trainer.log_every_n_steps=-1 | trainer.log_every_n_steps: must be at least 0, found -1
trainer.num_sanity_val_steps=-5 | trainer.num_sanity_val_steps: must be at least -1, found -5
trainer.gradient_clip_val=-1 | trainer.gradient_clip_val: must be at least 0, found -1
trainer.gradient_clip_val=nan | trainer.gradient_clip_val nan
trainer.devices=0 | devices 0
trainer.devices=-1 | devices
trainer.devices=many | devices
trainer.devices=[0,1] | devices
trainer.num_nodes=0 | num_nodes 0
trainer.max_epochs=-5 | max_epochs -5
trainer.max_steps=-7 | max_steps -7
trainer.max_time=soon | duration soon
trainer.limit_train_batches=-1 | limit_train_batches -1
trainer.limit_val_batches=-1 | limit_val_batches -1
trainer.limit_test_batches=1.5 | limit_test_batches 1.5
trainer.reload_dataloaders_every_n_epochs=-1 | reload_dataloaders_every_n_epochs -1
trainer.precision=8 | trainer.precision 8
trainer.precision=16-true | trainer.precision 16-true
trainer.accelerator=quantum | accelerator quantum
trainer.strategy=fsdp | fsdp
trainer.overfit_batches=1 | trainer.overfit_batches
trainer.callbacks=EMA trainer.callbacks.decay=2 | trainer.callbacks.EMA.decay 2
trainer.callbacks=SWA trainer.callbacks.start_epoch=-1 | trainer.callbacks.SWA.start_epoch -1
patience=-1 | patience: must be at least 1, found -1
patience=0 | patience: must be at least 1, found 0
nan_patience=0 | nan_patience: must be at least 1, found 0
save_every_n_steps=0 | save_every_n_steps: must be at least 1, found 0
seed_everything=-1 | seed_everything -1
seed_everything=4294967296 | seed_everything 4294967296
seed_everything=true | seed_everything True
ckpt_path= | ckpt_path
ckpt_path=nowhere.ckpt | ckpt_path nowhere.ckpt
name= | name: ''
name=.. | name: '..'
name=/absolute | name: '/absolute'
name={long} | name: 255
monitor=nothing | monitor nothing
monitor=loss/val/nobody | monitor loss/val/nobody
monitor_mode=up | monitor_mode up
schedule=gradual | schedule gradual
{lr}=-1 | model.optimizer -1
{lr}=nan | model.optimizer nan
{lr}=inf | model.optimizer inf
{lr}=abc | model.optimizer abc
model.optimizer=SparseAdam | model.optimizer: SparseAdam
model.optimizer=Nothing | model.optimizer Nothing
model.lr_scheduler=StepLR model.lr_scheduler.step_size=0 | step_size: must be at least 1, found 0
{warmup}=-3 | model.lr_scheduler.warmup_steps -3
model.balancer=Nothing | model.balancer Nothing
model.reset_head=true | model.reset_head: model.init_from
model.reset_layers=-1 | model.reset_layers -1
model.reset_layers=99 | model.reset_layers 99
model.init_from=nowhere.ckpt | model.init_from nowhere.ckpt
model.layers.decay=-1 | model.layers.decay -1
model.layers.decay=0 | model.layers.decay 0
model.tasks.left.weight=-1 | model.tasks.left.weight -1
model.tasks.left.weight=nan | weight nan
model.tasks.nobody.weight=1 | model.tasks nobody
{widths}=[0,8] | backbone.widths: must be at least 1, found [0, 8]
model.backbone.init_args.features=0 | backbone.features 0
model.backbone.init_args.kernel_size=0 | backbone.kernel_size 0
model.backbone.init_args.dropout=-1 | backbone.dropout: must be in [0, 1], found -1
model.backbone.init_args.dropout=2 | backbone.dropout: must be in [0, 1], found 2
model.backbone=MLP model.backbone.hidden=[0] | backbone.hidden 0
model.backbone=MLP model.backbone.hidden=[] | backbone.hidden []
{size}=0 | data.sampling.batch_size: must be at least 1, found 0
{size}=-3 | data.sampling.batch_size: must be at least 1, found -3
data.eval_batch_size=0 | data.eval_batch_size: must be at least 1, found 0
data.num_workers=-1 | data.num_workers -1
{pairs}.train_pairs=0 | data.sources.digits train
{pairs}.val_pairs=0 | data.sources.digits val
{pairs}.test_pairs=0 | data.sources.digits test
"""
PLACES = {"lr": LR, "widths": WIDTHS, "warmup": WARMUP, "size": SIZE, "pairs": PAIRS, "long": "a" * 300}
FILES = {
    "empty.yaml": (b"", "found nothing"),
    "latin-1.yaml": ('name: "café"\n'.encode("latin-1"), "must be text in UTF-8, found byte 0xe9"),
    "list.yaml": (b"- 1\n- 2\n", "config"),
    "broken.yaml": (b"model: {a: [1\n", "broken.yaml must be YAML, found in line 2"),
}


def cases() -> list[tuple[list[str], list[str]]]:
    """Arguments, and what their line must have."""
    lines = [line.split(" | ") for line in CASES.strip().splitlines()]
    changed = [[f"--{each}" for each in left.format(**PLACES).split(" ")] for left, _ in lines]
    return [(options, words.split(" ")) for options, (_, words) in zip(changed, lines, strict=True)]


@pytest.fixture
def refused(train_here: Callable, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """The last line of a run that is refused."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ending:
            train_here(*arguments)
        last = capfd.readouterr().err.strip().splitlines()[-1]
        assert ending.value.code == 2, last
        assert last.startswith("error: "), last
        return last

    return run


@pytest.mark.parametrize(("options", "words"), cases(), ids=lambda value: " ".join(value)[:60])
def test_a_bad_value_is_named(refused: Callable[..., str], options: list[str], words: list[str]) -> None:
    line = refused("fit", "--config", str(SMALL), *options)
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named(refused: Callable[..., str], name: str) -> None:
    content, words = FILES[name]
    Path(name).write_bytes(content)
    assert words in refused("fit", "--config", name)


def test_main_behaves_as_the_command(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    sys.path.insert(0, str(ROOT))
    from train import main

    with pytest.raises(SystemExit) as ending:
        main(["fit", "--config", str(SMALL), "--patience", "0"])
    assert ending.value.code == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith("error: patience: ")
