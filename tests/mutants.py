"""Files with some bytes changed, and whether what was read of them is the same."""

import random

import torch


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and torch.equal(bits(a), bits(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.detach().contiguous().reshape(-1).view(torch.uint8) if x.numel() else x


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
        data[-1 - draw.randrange(min(1500, len(data)))] = draw.randrange(256)
    return bytes(data)
