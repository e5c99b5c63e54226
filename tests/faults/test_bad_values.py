"""Bad values of a configuration: each ends in one line that names its key, before the first step."""

import os
import sys
from collections.abc import Callable
from itertools import pairwise
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
{pairs}.train_pairs=null | data.sources.digits.train_pairs: must be int, found null
{pairs}.train_pairs=x | train_pairs x
{pairs}.train_pairs=2.5 | train_pairs 2.5
{pairs}.train_pairs=nan | train_pairs nan
{pairs}.seed=-1 | data.sources.digits.init_args.seed: must be at least 0, found -1
data.eval_batch_size=-1 | data.eval_batch_size -1
data.eval_batch_size=x | data.eval_batch_size x
data.eval_batch_size=2.5 | data.eval_batch_size 2.5
data.eval_batch_size=null | data.eval_batch_size None
data.on_error=ignore | data.on_error ignore
data.sources={{}} | no data: data.sources
data.sources=null | data.sources None
data.sources={{"d":{{"class_path":"Digit"}}}} | data.sources Digit
data.transform=5 | data.transform 5
data.transform=torch.nn.ReLU | data.transform torch.nn.ReLU
data.folds=5 | data.folds 5
data.nothing=1 | data.nothing
data.sampling=5 | data.sampling 5
data.sampling=torch.nn.ReLU | data.sampling torch.nn.ReLU
data.sampling.global_batch_size=7 | data.sampling.global_batch_size: 7 32
data.sampling.batch_size=null data.sampling.global_batch_size=0 | data.sampling.global_batch_size: 0
data.sampling.batch_size=null data.sampling.global_batch_size=7 trainer.accumulate_grad_batches=2 | batch_size 2 7
data.sampling=PerTask data.sampling.batch_size=0 | data.sampling.batch_size 0
data.sampling=PerTask data.sampling.batch_size=1.5 | batch_size 1.5
data.sampling=PerTask data.sampling.batch_size={{"left":3}} | data.sampling.batch_size left
data.sampling=PerTask data.sampling.batch_size=100000 | data.sampling.batch_size 100000
data.sampling=PerTask data.sampling.probabilities=equal | probabilities equal
data.sampling=PerTask data.sampling.probabilities={{"left":2}} | probabilities left
data.sampling=PerTask data.sampling.temperature=0 | data.sampling.temperature 0
data.sampling=PerTask data.sampling.temperature=nan | temperature nan
data.sampling=PerTask data.sampling.tasks_per_step=0 | data.sampling.tasks_per_step 0
data.sampling=PerTask data.sampling.tasks_per_step=9 | data.sampling.tasks_per_step 9
data.sampling=PerTask data.sampling.periods={{"nobody":2}} | data.sampling.periods nobody
data.sampling=PerTask data.sampling.periods={{"left":0}} | data.sampling.periods.left 0
data.sampling=PerTask data.sampling.epoch_length=0 | data.sampling.epoch_length 0
data.sampling=PerTask data.sampling.epoch_length=middle | epoch_length middle
model.backbone=null | no network: model.backbone
model.backbone=5 | model.backbone 5
model.backbone=[] | model.backbone []
model.backbone=torch.nn.ReLU | model.backbone torch.nn.ReLU
model.backbone=TimmBackbone model.backbone.name=resnet999 | backbone.name resnet999
model.sharing=torch.nn.ReLU | model.sharing torch.nn.ReLU
model.sharing=5 | model.sharing 5
model.head=torch.nn.ReLU | model.head torch.nn.ReLU
model.head=[1] | model.head [1]
model.balancer=torch.nn.ReLU | model.balancer torch.nn.ReLU
model.balancer=5 | model.balancer 5
model.gradients.level=feature | model.gradients level feature
model.gradients.every=0 | every 0
model.gradients.nothing=1 | nothing
model.optimizer=3 | model.optimizer 3
model.optimizer=[1] | model.optimizer [1]
model.optimizer=torch.optim. | model.optimizer torch.optim.
model.optimizer=nowhere.X | model.optimizer nowhere.X
model.optimizer=os | model.optimizer os
model.optimizer=torch.optim.lr_scheduler.StepLR | model.optimizer StepLR
model.lr_scheduler=torch.nn.ReLU | model.lr_scheduler torch.nn.ReLU
model.lr_scheduler.init_args.final_factor=-1 | final_factor: must be at least 0, found -1
model.lr_scheduler.init_args.final_factor=nan | final_factor nan
model.lr_interval=minute | model.lr_interval minute
model.compile=maybe | model.compile maybe
model.init_from={long} | {long}
model.init_from=. | model.init_from: must be a file
model.tasks.left.class_weights=[1,2] | model.tasks.left.class_weights [1.0, 2.0]
model.tasks.left.class_weights=[0,0,0,0,0,0,0,0,0,0] | model.tasks.left.class_weights: above 0
model.tasks.left.class_weights=[nan,1,1,1,1,1,1,1,1,1] | class_weights nan
model.tasks.left.class_weights=balance | class_weights balance
model.tasks.left.label_smoothing=1 | model.tasks.left.label_smoothing 1
model.tasks.left.label_smoothing=-1 | model.tasks.left.label_smoothing -1
model.tasks.left.label_smoothing=nan | label_smoothing nan
model.tasks.left.label_smoothing=null | model.tasks.left.label_smoothing: must be float, found null
model.tasks.left.rate=0 | model.tasks.left.rate 0
model.tasks.left.rate=-1 | model.tasks.left.rate -1
model.tasks.left.rate=inf | rate inf
model.tasks.left.auxiliary=maybe | auxiliary maybe
model.tasks.left.loss=torch.nn.ReLU | model.tasks.left.loss ReLU
model.tasks.left.loss=torch.nn.CrossEntropyLoss | model.tasks.left.loss: reduction
model.tasks.left.loss=5 | model.tasks loss 5
model.tasks.left.head=torch.nn.ReLU | model.tasks head torch.nn.ReLU
model.tasks.left.nothing=1 | model.tasks nothing
model.tasks.parity.pos_weight=-1 | model.tasks.parity.pos_weight -1
model.tasks.parity.pos_weight=nan | pos_weight nan
model.tasks.parity.pos_weight=[1,2] | model.tasks.parity.pos_weight [1.0, 2.0]
model.tasks.left.metrics={{"m":"torchmetrics.MeanSquaredError"}} | model.tasks.left.metrics.m MeanSquaredError
model.tasks.sum.metrics={{"m":"torchmetrics.classification.BinaryAccuracy"}} | model.tasks.sum.metrics.m BinaryAccuracy
model.tasks.left.metrics={{"m":"torch.nn.ReLU"}} | model.tasks ReLU
nothing=1 | unrecognized arguments: --nothing
nam=x | unrecognized arguments: --nam
name=. | name: '.'
name={blank} | name: must be of characters that can be seen
name={newline} | name: must be of characters that can be seen
name={nul} | name: must be of characters that can be seen
ckpt_path=. | ckpt_path .
ckpt_path=/dev/zero | ckpt_path /dev/zero
schedule=5 | schedule 5
trainer.min_steps=-1 | trainer.min_steps: must be at least 0, found -1
trainer.min_epochs=-1 | trainer.min_epochs: must be at least 0, found -1
trainer.max_epochs=x | trainer.max_epochs x
trainer.max_epochs=2.5 | trainer.max_epochs 2.5
trainer.fast_dev_run=-1 | fast_dev_run -1
trainer.benchmark=x | trainer.benchmark x
trainer.logger=5 | trainer.logger 5
trainer.logger=torch.nn.ReLU | trainer.logger torch.nn.ReLU
trainer.profiler=quick | profiler simple
trainer.callbacks=5 | trainer.callbacks 5
trainer.callbacks=torch.nn.ReLU | trainer.callbacks torch.nn.ReLU
trainer.gradient_clip_algorithm=x | gradient_clip_algorithm x
trainer.detect_anomaly=maybe | trainer.detect_anomaly maybe
trainer.enable_checkpointing=maybe | trainer.enable_checkpointing maybe
trainer.max_time=-1:0:0:0 | duration -1:0:0:0
trainer.nothing=1 | trainer.nothing
"""
PLACES = {"lr": LR, "widths": WIDTHS, "warmup": WARMUP, "size": SIZE, "pairs": PAIRS, "long": "a" * 300}
PLACES |= {"blank": "\N{NO-BREAK SPACE}", "newline": "a\nb", "nul": "a\0b"}
LETTERS = "abcdefgh"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise(LETTERS)
)
FILES = {
    "empty.yaml": (b"", "found nothing"),
    "latin-1.yaml": ('name: "café"\n'.encode("latin-1"), "must be text in UTF-8, found byte 0xe9"),
    "list.yaml": (b"- 1\n- 2\n", "config"),
    "bomb.yaml": (BOMB.encode(), "must have at most 1,000,000 values, its aliases written out"),
    "twice.yaml": (b"name: a\nname: b\n", "'name' twice, from line 1 on"),
    "scalar.yaml": (b"hello\n", "found hello"),
    "nul.yaml": (b"name: a\0b\n", "must be YAML"),
    "tab.yaml": (b"name:\tx\n\t- y\n", "line 1"),
    "broken.yaml": (b"model: {a: [1\n", "broken.yaml must be YAML, found in line 2"),
}


def cases() -> list[tuple[list[str], list[str]]]:
    """Arguments, and what their line must have."""
    lines = [line.split(" | ") for line in CASES.strip().splitlines()]
    changed = [[f"--{each}" for each in left.format(**PLACES).split(" ")] for left, _ in lines]
    return [(options, words.format(**PLACES).split(" ")) for options, (_, words) in zip(changed, lines, strict=True)]


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
    assert words in refused("fit", "--config", str(SMALL), "--config", name)


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict", "data", "layers", "search"])
def test_a_command_alone_wants_data(refused: Callable[..., str], command: str) -> None:
    assert "no data: data.sources must name a dataset" in refused(command)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize(
    "options", [["--config"], ["--config", str(SMALL), "--model.init_from"]], ids=["config", "init"]
)
def test_what_is_no_file_is_not_waited_for(
    refused: Callable[..., str], make: Callable[[Path], None], options: list[str]
) -> None:
    make(Path("odd"))
    assert "must be a file, found odd" in refused("fit", *options, "odd")


def test_main_behaves_as_the_command(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    sys.path.insert(0, str(ROOT))
    from train import main

    with pytest.raises(SystemExit) as ending:
        main(["fit", "--config", str(SMALL), "--patience", "0"])
    assert ending.value.code == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith("error: patience: ")
