"""A checkpoint whose bytes have changed is refused, or has the very same content."""

import random
from pathlib import Path

import pytest
import torch

from app.runs import read_checkpoint
from models.errors import ConfigurationError


@pytest.fixture
def content() -> dict:
    weights = {f"network.layer{i}.weight": torch.randn(4, 5) for i in range(5)}
    states = [{"state": {0: {"exp_avg": torch.randn(4, 5)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}]
    return {"state_dict": weights, "format": 1, "global_step": 3, "epoch": 1, "optimizer_states": states}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def mutant(whole: bytes, draw: random.Random) -> bytes:
    data, at = bytearray(whole), draw.randrange(len(whole))
    kind = draw.choice(["bit", "byte", "cut", "zeros", "twice", "directory"])
    if kind == "bit":
        data[at] ^= 1 << draw.randrange(8)
    elif kind == "byte":
        data[at] = draw.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "zeros":
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    elif kind == "twice":
        data[at:at] = data[at : at + 16]
    else:
        data[-1 - draw.randrange(1500)] = draw.randrange(256)
    return bytes(data)


def test_a_thousand_mutants(tmp_path: Path, content: dict) -> None:
    path = tmp_path / "mutant.ckpt"
    torch.save(content, path)
    whole, draw, refused = path.read_bytes(), random.Random(0), 0
    for number in range(1000):
        path.write_bytes(mutant(whole, draw))
        try:
            found = read_checkpoint(path)
        except ConfigurationError as error:
            assert str(error).startswith("ckpt_path: ")  # noqa: PT017  # one mutant in four is read
            refused += 1
        else:
            assert same(content, found), number
    assert refused > 700


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "foreign.ckpt"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="ckpt_path: must be a whole checkpoint"):
        read_checkpoint(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ckpt_path: must be a file, found "):
        read_checkpoint(tmp_path)
