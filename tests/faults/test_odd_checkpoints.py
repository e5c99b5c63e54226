"""Whole checkpoint files with something else in them: refused in one line or gone on from; never a traceback."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL

MANY = [pytest.param(12, id="some"), pytest.param(100, id="many", marks=pytest.mark.slow)]
ODD: list[Any] = [None, "x", -1, 10**30, float("nan"), [], {}, [1], {"x": 1}, torch.tensor([float("nan")]), True, ()]
OF_OTHERS = ("optimizer_states", "lr_schedulers", "loops")  # what is in them is read by torch and Lightning alone
OPTIONS = ["--config", str(SMALL), "--trainer.limit_train_batches", "2", "--trainer.max_epochs"]


def changed(content: Any, draw: random.Random) -> str:
    """Replace or leave out one value of a checkpoint, and say which."""
    names: list[Any] = []
    while True:
        name = draw.choice(list(content) if isinstance(content, dict) else range(len(content)))
        names.append(name)
        inside = content[name]
        if name in OF_OTHERS or not isinstance(inside, dict | list) or not inside or draw.random() < 0.2:
            break
        content = inside
    if draw.random() < 0.2:
        del content[name]
        return f"{names} left out"
    content[name] = draw.choice(ODD)
    return f"{names} = {content[name]!r}"


@pytest.mark.parametrize("number", MANY)
def test_odd_values(train_here: Callable, capfd: pytest.CaptureFixture, number: int) -> None:
    train_here("fit", *OPTIONS, "1")
    whole, path = Path("runs/small/version_0/checkpoints/last.ckpt"), Path("runs/odd.ckpt")
    refused = 0
    for seed in range(number):
        draw = random.Random(seed)
        content = torch.load(whole, weights_only=True)
        what = changed(content, draw)
        torch.save(content, path)
        capfd.readouterr()
        command = draw.choice(["fit", "test"])
        refusal = None
        try:
            train_here(command, *OPTIONS, "2", "--ckpt_path", str(path))
        except SystemExit as ending:
            refusal = ending.code
        except Exception as error:
            raise AssertionError(f"{command} of seed {seed}: {what}") from error
        if refusal is not None:
            lines = capfd.readouterr().err.strip().splitlines()
            assert (refusal, lines[-1][:7]) == (2, "error: "), (seed, what, lines)
            assert not any("Traceback" in line for line in lines), (seed, what, lines)
            refused += 1
    assert 0 < refused < number
