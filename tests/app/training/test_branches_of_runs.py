"""Branches that split in training: what goes with them, on ranks, after a kill, under schedules and averages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Train, slow_but
from lightning.pytorch import Callback
from resuming import fit, kill_and_resume, last
from test_ranks import run

from app.training.splits import split

BRANCHING = ["--model.sharing", "Branching"]
FAFS = [*BRANCHING, "--trainer.callbacks+=FAFS", "--trainer.callbacks.epochs=[1,2]", "--trainer.callbacks.cost"]
OPTIMIZERS = {
    "momentum": ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.05", "--model.optimizer.momentum", "0.9"],
    "adam": ["--model.optimizer", "Adam", "--model.optimizer.lr", "0.01"],
}
TREE = "network.sharing.tree"
SHORT = ["fit", "--config", str(SMALL), "--trainer.logger", "false", "--trainer.limit_val_batches", "0",
         "--trainer.max_epochs", "2"]  # fmt: skip


class Splitting(Callback):
    """Splits the second stage before step 5, and steps both copies along one gradient."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            split(trainer, pl_module, 1, [["left", "sum"], ["right", "parity"]])
            self.state_is_copied(trainer, pl_module)
        if trainer.global_step == 6:
            parameters = dict(pl_module.network.named_parameters())
            self.moved = [(parameters[new] - parameters[old]).abs().max() for new, old in self.pairs]

    def state_is_copied(self, trainer: Any, pl_module: Any) -> None:
        parameters, state = dict(pl_module.network.named_parameters()), trainer.optimizers[0].state
        pairs = [(f"sharing.networks.right.{rest}", f"sharing.networks.left.{rest}") for rest in self.names(pl_module)]
        self.pairs = pairs
        for new, old in pairs:
            assert state[parameters[new]].keys() == state[parameters[old]].keys() != {}.keys()
            for key, value in state[parameters[old]].items():
                assert torch.equal(state[parameters[new]][key], value)
                assert state[parameters[new]][key] is not value
        (average,) = [each._average_model.module for each in trainer.callbacks if type(each).__name__ == "EMA"]
        averaged = dict(average.network.named_parameters())
        assert all(torch.equal(averaged[new], averaged[old]) for new, old in pairs)
        assert not all(torch.equal(averaged[old], parameters[old]) for _, old in pairs)
        assert torch.equal(average.network.sharing.tree, pl_module.network.sharing.tree)
        (pulled,) = [each for each in trainer.callbacks if type(each).__name__ == "L2SP"]
        start = {id(parameter): weight for parameter, weight in pulled._pulled}
        for new, old in pairs:
            assert torch.equal(start[id(parameters[new])], start[id(parameters[old])])
            assert not torch.equal(start[id(parameters[new])], parameters[new])
        assert parameters[pairs[0][0]].grad is None

    def names(self, pl_module: Any) -> list[str]:
        stages = pl_module.network.sharing.networks["left"].layers
        return [f"layers.{number}.{name}" for number in (1, 2) for name, _ in stages[number].named_parameters()]

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step == 5:
            parameters = dict(pl_module.network.named_parameters())
            for new, old in self.pairs:
                assert parameters[new].grad is not None
                parameters[new].grad.copy_(parameters[old].grad)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_state_average_and_start_go_with_a_split(train_here: Callable, optimizer: str) -> None:
    """So both copies stay equal in a step along the same gradient, the pull to their start included."""
    ema = ["--trainer.callbacks+=EMA", "--trainer.callbacks.decay", "0.8"]
    pull = ["--trainer.callbacks+=L2SP", "--trainer.callbacks.alpha", "0.1"]
    spy = ["--trainer.callbacks+=test_branches_of_runs.Splitting"]
    cli = train_here(*SHORT, *BRANCHING, *OPTIMIZERS[optimizer], *ema, *pull, *spy)
    (splitting,) = [each for each in cli.trainer.callbacks if type(each).__name__ == "Splitting"]
    assert len(splitting.moved) == 4
    assert not any(splitting.moved)
    assert cli.model.network.sharing.groups(1) == [["left", "sum"], ["right", "parity"]]
    assert all(parameter.grad is None for parameter in cli.model.network.sharing.unused_parameters())


@pytest.mark.parametrize("optimizer", slow_but(OPTIMIZERS, "adam"))
def test_killed_before_and_after_a_split_and_resumed(train: Train, train_here: Callable, optimizer: str) -> None:
    """Of the stages at steps 8 and 16: in mid-epoch before the first, right before it, between both, and after both."""
    options = [*FAFS, "0.02", *OPTIMIZERS[optimizer], "--trainer.max_epochs", "3"]
    train_here(*fit("whole", *options))
    assert last("whole")["state_dict"][TREE].any(dim=1).tolist() == [False, True, True]
    for step in (5, 8, 13, 20):
        kill_and_resume(train, train_here, options, step, name=str(step))


@pytest.mark.slow
def test_splits_on_ranks_and_micro_batches(train: Train, train_here: Callable, tmp_path: Path) -> None:
    options = [*FAFS, "0.02", "--trainer.limit_val_batches", "1.0", "--trainer.max_epochs", "4", "--model.balancer",
               "UPGrad", "--data.sources", "{digits: {class_path: Digits, init_args: {train_pairs: 120}}}"]  # fmt: skip
    (whole,) = run(train, train_here, tmp_path / "whole", 1, 24, 1, *options)
    trees = [last("small")["state_dict"][TREE]]
    for part in run(train, train_here, tmp_path / "two", 2, 4, 3, *options):
        assert (part[-1] - whole[-1]).abs().max() <= 1e-9
    first, second = (torch.load(tmp_path / f"two/parameters-{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    trees.append(torch.load("runs/small/version_1/checkpoints/last.ckpt", weights_only=True)["state_dict"][TREE])
    assert torch.equal(*trees)
    assert trees[0].any()


MORE = {"thaw": ["--schedule", "gradual_unfreeze"], "average": ["--trainer.callbacks+=EMA"]}


@pytest.mark.parametrize("more", MORE)
def test_split_under_a_schedule_and_under_an_average(train_here: Callable, more: str) -> None:
    """New branches are trained as the layers are that they are of."""
    cli = train_here(*fit("run", *FAFS, "0", "--trainer.max_epochs", "4", *MORE[more]))
    sharing = cli.model.network.sharing
    assert sharing.groups(2) == [["left"], ["right"], ["sum"], ["parity"]]
    weights = [network.layers[2][1].weight for network in sharing.networks.values()]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])
    assert len({weight.requires_grad for weight in weights}) == 1


def test_tested_network_has_the_tree_of_its_checkpoint(train_here: Callable) -> None:
    cli = train_here(*fit("run", *FAFS, "0"))
    tested = train_here("test", "--config", str(SMALL), "--name", "run", *BRANCHING, "--ckpt_path", "last")
    assert tested.model.network.sharing.groups(2) == cli.model.network.sharing.groups(2)
    assert len(tested.model.network.sharing.groups(2)) == 4


APART = """
from datamodules.sources import Digits, Source, TensorSplit


class Apart(Source):
    '''Each row has the label of one task.'''

    def __init__(self) -> None:
        self.digits = Digits(train_pairs=800, val_pairs=80, test_pairs=80)
        self.targets = self.digits.targets

    def split(self, name):
        whole = self.digits.split(name)
        rows = [row % 4 for row in range(len(whole))]
        labelled = {task: [row == number for row in rows] for number, task in enumerate(self.targets)}
        labelled = {task: whole._labels["left"].new_tensor(own).bool() for task, own in labelled.items()}
        return TensorSplit(whole.inputs, {task: whole._labels[task] for task in self.targets}, labelled)
"""
BAD = {
    "apart": ([*FAFS, "1", "--data.sources", "{apart: {class_path: apart.Apart}}"],
              "trainer.callbacks.FAFS: needs rows of validation with the labels of any two tasks, found none of 'left' "
              "and 'right'"),
    "no tree": (["--trainer.callbacks+=FAFS", "--trainer.callbacks.epochs=[1]"],
                "model.sharing: must be Branching under FAFS, found HardSharing"),
    "not ascending": ([*BRANCHING, "--trainer.callbacks+=FAFS", "--trainer.callbacks.epochs=[2,1]"],
                      "trainer.callbacks.FAFS.epochs: must ascend from 1 or later, found [2, 1]"),
    "too many": ([*BRANCHING, "--trainer.callbacks+=FAFS", "--trainer.callbacks.epochs=[1,2,3,4]"],
                 "trainer.callbacks.FAFS.epochs: must be at most 3, one a stage that has parameters, found [1, 2, 3"),
    "late": ([*BRANCHING, "--trainer.callbacks+=FAFS", "--trainer.callbacks.epochs=[4]"],
             "trainer.callbacks.FAFS.epochs: must be less than the run's 4 epochs, found [4]"),
    "cost": ([*FAFS, "-1"], "trainer.callbacks.FAFS.cost: must be finite and not negative, found -1.0"),
    "blind": ([*FAFS, "1", "--trainer.limit_val_batches", "0"],
              "trainer.limit_val_batches: must leave FAFS rows of validation, found 0"),
    "tree": (["--model.sharing", "{class_path: Branching, init_args: {tree: {1: [[left, right], [sum, nobody]]}}}"],
             "model.sharing.tree: must have each of the tasks ['left', 'right', 'sum', 'parity'] once at stage 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_option_is_one_line(train_here: Callable, capfd: pytest.CaptureFixture, case: str) -> None:
    options, line = BAD[case]
    Path("apart.py").write_text(APART)
    with pytest.raises(SystemExit, match="2"):
        train_here("fit", "--config", str(SMALL), *options)
    assert line in capfd.readouterr().err.splitlines()[-1]
