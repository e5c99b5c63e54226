"""What an exported network reads and gives, in words that another program can follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.tasks import Task
from app.tasks.kinds import BinaryTask
from datamodules.contract import Contract, Dates, Feature
from datamodules.contract.plain import KIND, plain


def description(contract: Contract, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Inputs and outputs of an exported network, as JSON has it.

    `inputs` has by name the shape of a row; of an image also its mode and what is done to it before (`size`, `mean`,
    `std`, `interpolation`, as far as they are known; with nothing, bytes over 255), of features a list of what each
    column becomes: (x − mean) / std of numbers, a one for one of the `values` of text. `outputs` has by task its
    classes, in the order of their numbers, or its unit; of a binary task also the threshold above which it says yes.

    Args:
        contract: What the network takes and gives.
        tasks: Name → task, of each output.
    """
    shape: Any = contract.input_shape
    shapes = shape if isinstance(shape, dict) else {"image" if _is_image(contract) else "input": shape}
    return {
        "inputs": {name: _input(name, tuple(each), contract) for name, each in shapes.items()},
        "outputs": {name: _output(task) for name, task in tasks.items()},
    }


def input_names(contract: Contract) -> list[str]:
    """The names of the inputs, in their order."""
    return list(description(contract, {})["inputs"])


def _is_image(contract: Contract) -> bool:
    return len(contract.input_shape) == 3 and not contract.columns.features


def _input(name: str, shape: tuple[int, ...], contract: Contract) -> dict[str, Any]:
    """A row of an input."""
    content: dict[str, Any] = {"shape": ["batch", *shape], "type": "float32"}
    if name == "image":
        return content | {"mode": contract.columns.mode, "transform": plain(contract.transform)}
    if contract.columns.features and len(shape) == 1:
        columns = [{"kind": each.kind, **_of(each), "inputs": each.inputs} for each in contract.columns.features]
        return content | {"columns": columns}
    return content


def _output(task: Task) -> dict[str, Any]:
    """A row of an output."""
    target = task.target
    content: dict[str, Any] = {"kind": type(target).__name__}
    if target.class_names is not None:
        content["classes"] = list(target.class_names)
    if getattr(target, "unit", None):
        content["unit"] = target.unit  # type: ignore[attr-defined]
    if isinstance(task, BinaryTask):
        content["threshold"] = float(task.decision.threshold)
    return content


def _of(feature: Feature) -> dict[str, Any]:
    """What is known of a column, without the classes of this program."""
    parts = {"parts": [_of(each) for each in feature.parts]} if isinstance(feature, Dates) else {}
    return {key: value for key, value in plain(feature).items() if key != KIND} | parts
