"""Files whose bytes have changed: refused in one line, or the very same; never another exception."""

import copy
import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import SMALL
from mutants import mutant, same
from safetensors.torch import save_file

from app.runs import read_checkpoint
from models.backbones import weights
from models.errors import ConfigurationError

MANY = [pytest.param(100, id="some"), pytest.param(1000, id="thousand", marks=pytest.mark.slow)]


def tried(path: Path, read: Callable[[], Any], number: int, key: str) -> list[bool]:
    """Of so many mutants of a file, those that are read: whether each gives what the file does."""
    content, draw, found = path.read_bytes(), random.Random(0), []
    whole = copy.deepcopy(read())  # which may be mapped to the file
    for _ in range(number):
        path.write_bytes(mutant(content, draw))
        try:
            found.append(same(whole, read()))
        except ConfigurationError as error:
            lines = str(error).splitlines()
            assert [line.startswith(key) for line in lines] == [True]  # some mutants are read
    path.write_bytes(content)
    return found


@pytest.mark.parametrize("number", MANY)
def test_of_a_run(train_here: Callable, number: int) -> None:
    train_here("fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    path = Path("runs/small/version_0/checkpoints/last.ckpt")
    read = tried(path, lambda: read_checkpoint(path), number, "ckpt_path: ")
    assert len(read) < number / 2
    assert all(read)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {name: x[:4].clone() for name, x in timm.create_model("resnet10t").state_dict().items() if x.ndim}


@pytest.mark.parametrize("number", MANY)
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_of_weights(tmp_path: Path, state: dict[str, torch.Tensor], kind: str, number: int) -> None:
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    read = tried(path, lambda: weights.read(str(path)), number, "backbone.weights: ")
    if kind == "zip":
        assert all(read)
    elif kind == "safetensors":  # the values have no sum
        assert read
    sum_ = hashlib.sha256(path.read_bytes()).hexdigest()
    read = tried(path, lambda: weights.read(str(path), sum_[:8]), number, "backbone.weights_sha256: ")
    assert all(read)
    assert same(state, weights.read(str(path), sum_))


@pytest.mark.parametrize("given", ["", "abc", "z" * 8, "0" * 65])
def test_what_is_no_sum(tmp_path: Path, given: str) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(ConfigurationError, match=r"weights_sha256: the first 8 to all 64 hexadecimal digits"):
        weights.read(str(tmp_path / "net.pth"), given)
