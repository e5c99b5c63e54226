"""An option is known by its whole name alone, in every subcommand."""

from collections.abc import Callable

import pytest
from conftest import SMALL
from test_mistakes import near, refused

from app.cli.commands import commands

CONFIG = ["--config", str(SMALL)]
NEEDS_CONFIG = [name for name, command in commands().items() if command.parts]
PREFIXES = {  # what is typed after which subcommand → the option that it begins
    "the settings": (["--conf", str(SMALL), "fit"], "config"),
    "the help": (["--help_al"], "help_all"),
    **{f"{name}'s configuration": ([name, "--conf", str(SMALL)], "config") for name in NEEDS_CONFIG},
    **{f"{name}'s printed one": ([name, *CONFIG, "--print_conf"], "print_config") for name in NEEDS_CONFIG},
    "fit's schedule": (["fit", *CONFIG, "--sched", "full"], "schedule"),
    "fit's batches": (["fit", *CONFIG, "--data.eval_batch", "3"], "data.eval_batch_size"),
    "fit's group": (["fit", *CONFIG, "--model.gradients.ever", "3"], "model.gradients.every"),
    "fit's trainer": (["fit", *CONFIG, "--trainer.max_epoch=3"], "trainer.max_epochs"),
    "fit's option of a class": (["fit", *CONFIG, "--model.optimizer.weight_dec", "0.1"], "weight_decay"),
    "fit's option of init_args": (["fit", *CONFIG, "--model.optimizer.init_args.weight_dec", "0.1"], "weight_decay"),
    "test's input": (["test", "--inp", "rows.csv", *CONFIG], "input"),
    "predict's probabilities": (["predict", *CONFIG, "--prob", "true"], "probabilities"),
    "export's run": (["export", "--ru", "runs/small"], "run"),
    "export's format": (["export", "--run", "runs/small", "--form", "onnx"], "format"),
    "serve's port": (["serve", "--run", "runs/small", "--por", "8000"], "port"),
    "serve's limits": (["serve", "--run", "runs/small", "--limits.sec", "3"], "limits.seconds"),
    "search's trials": (["search", *CONFIG, "--search.tria", "3"], "search.trials"),
}


@pytest.mark.parametrize("case", PREFIXES)
def test_a_prefix_is_refused(train_here: Callable, capfd: pytest.CaptureFixture, case: str) -> None:
    arguments, whole = PREFIXES[case]
    assert whole in near(refused(train_here, capfd, *arguments))


def test_an_option_of_a_command_before_it(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    line = refused(train_here, capfd, "--name", "mine", "fit", *CONFIG)
    assert line == "error: --name: must stand after the command, whose option it is"
