"""Writes a trained network in the format of another program, and checks what was written on real rows."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from app.exports.description import description, input_names
from app.exports.graphs import Call, write_onnx, write_torch
from app.exports.trunk import trunks_of, write_trunks
from app.network.network import Network
from app.runs import Run, whole_file
from datamodules.batch import Inputs
from models.errors import ConfigurationError

ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "timm": ".safetensors"}
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "timm": ("safetensors",)}
LARGEST = 1e-4  # difference from the network, of a probability, or of a number in standard deviations
SIZES = (1, 7, 64)  # of batches that are compared, made of the rows over and over


class Exported(nn.Module):
    """A network as a function of its inputs alone: every task's predictions of every row, in the tasks' order.

    Args:
        network: The network.
        inputs: Names of the modalities; one where the input is a tensor.
        modal: Whether inputs are given to the network by modality.
    """

    def __init__(self, network: Network, inputs: list[str], modal: bool) -> None:
        super().__init__()
        self.network, self.names, self.modal = network, inputs, modal

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Predictions: probabilities of classes, numbers in the user's unit, or maps of them."""
        x: Inputs = dict(zip(self.names, inputs, strict=True)) if self.modal else inputs[0]
        everything = torch.arange(inputs[0].shape[0], device=inputs[0].device)
        outputs = self.network(x, dict.fromkeys(self.network.tasks, everything))
        return tuple(self.network.tasks[name].predictions(each) for name, each in outputs.items())


def files_of(run: Run, format: str, path: Path) -> list[Path]:
    """The files that `export` writes.

    Raises:
        ValueError: The network cannot be exported so.
    """
    if format == "timm":
        return list(trunks_of(run.network, path))
    return [path, path.with_name(f"{path.name}.json")]


def export(run: Run, format: str, path: Path, rows: Inputs) -> None:
    """Write a network into `files_of`: beside it a JSON of what it reads and gives, and check the file on real rows.

    Args:
        run: The run.
        format: One of `ENDINGS`.
        path: The file.
        rows: Inputs [B, ...] as the network reads them.

    Raises:
        ValueError: A package is missing, the network cannot be exported so, or what was written gives other numbers.
    """
    for package in NEEDS.get(format, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError("format", f"{format} needs the package {package}, which is not installed", format)
    if format == "timm":
        write_trunks(trunks_of(run.network, path))
        return
    names, outputs = input_names(run.contract), list(run.network.tasks)
    inputs = tuple(rows[name] for name in names) if isinstance(rows, dict) else (rows,)
    module = Exported(run.network, names, isinstance(rows, dict)).eval()
    about = json.dumps(description(run.contract, dict(run.network.tasks.items())), indent=2)
    part = path.with_name(f".part-{path.name}")  # its ending tells what it is
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        call = (
            write_onnx(module, inputs, (names, outputs), part, about)
            if format == "onnx"
            else write_torch(module, inputs, part, about)
        )
        _check(run, call, module, inputs)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _, beside = files_of(run, format, path)
    with whole_file(beside) as file:
        file.write(f"{about}\n".encode())


def _check(run: Run, call: Call, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Compare a file with the network on batches of several sizes.

    Raises:
        ValueError: They differ.
    """
    for size in SIZES:
        batch = tuple(torch.cat([x] * -(-size // len(x)))[:size] for x in inputs)
        with torch.no_grad():
            expected = module(*batch)
        for task, own, found in zip(run.network.tasks, expected, call(batch), strict=True):
            scale = getattr(run.contract.targets[task], "std", 1.0)
            difference = ((found.double() - own.double()) / scale).abs().max().item()
            if not difference <= LARGEST:
                rule = f"what was written must give the network's predictions of {task!r} within {LARGEST}"
                raise ConfigurationError("format", rule, f"{difference:.2g} in a batch of {size}")
