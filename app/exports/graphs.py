"""The graph of a network, as ONNX or as torch has it, and the file of it as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

Call = Callable[[tuple[Tensor, ...]], list[Tensor]]
METADATA = "polyhead"  # under which a file has the description of its inputs and outputs
TRACED = 2  # rows: of one, a graph would take the number for a constant


def write_onnx(
    module: nn.Module, inputs: tuple[Tensor, ...], names: tuple[list[str], list[str]], path: Path, about: str
) -> Call:
    """Write a graph of any number of rows for ONNX's runtimes.

    Args:
        module: Called with the inputs, gives a tuple.
        inputs: Some rows, [B, ...] each.
        names: Those of the inputs and of the outputs.
        path: The file.
        about: What it keeps as metadata.

    Returns:
        The file as a function of inputs.
    """
    import onnx  # not needed by those who export nothing
    import onnxruntime  # type: ignore[import-untyped]

    program = torch.onnx.export(
        _graph(module, inputs), input_names=names[0], output_names=names[1], dynamo=True, verbose=False
    )
    assert program is not None
    program.save(path, external_data=False)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA: about})
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def call(rows: tuple[Tensor, ...]) -> list[Tensor]:
        given = {name: x.numpy() for name, x in zip(names[0], rows, strict=True)}
        return [torch.from_numpy(y) for y in session.run(names[1], given)]

    return call


def write_torch(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, about: str) -> Call:
    """Write a graph of any number of rows that `torch.export.load` reads; arguments and what is returned as above."""
    torch.export.save(_graph(module, inputs), path, extra_files={f"{METADATA}.json": about})
    read: Any = torch.export.load(path).module()
    return lambda rows: list(read(*rows))


def _graph(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    some = tuple(torch.cat([x] * TRACED)[:TRACED] for x in inputs)
    batch = Dim("batch", min=1)
    return torch.export.export(module, some, dynamic_shapes=(tuple({0: batch} for _ in inputs),))
