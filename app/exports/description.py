"""What an exported network reads and gives, in words that another program can follow."""

from __future__ import annotations

from typing import Any

from datamodules.contract import Contract
from datamodules.contract.plain import plain
from datamodules.targets import Target


def description(contract: Contract, outputs: list[str]) -> dict[str, Any]:
    """Inputs and outputs of an exported network, as JSON has it.

    `inputs` has by name the shape of a row; of an image also its mode and what is done to it before (`size`, `mean`,
    `std`, `interpolation`, as far as they are known; with nothing, bytes over 255), of features a list of what each
    column becomes: (x − mean) / std of numbers, a one for one of the `values` of text. `outputs` has by task its
    classes, in the order of their numbers, or its unit.

    Args:
        contract: What the network takes and gives.
        outputs: The names of the outputs.
    """
    shape: Any = contract.input_shape
    shapes = shape if isinstance(shape, dict) else {"image" if _is_image(contract) else "input": shape}
    return {
        "inputs": {name: _input(name, tuple(each), contract) for name, each in shapes.items()},
        "outputs": {task: _output(contract.targets[task]) for task in outputs},
    }


def input_names(contract: Contract) -> list[str]:
    """The names of the inputs, in their order."""
    return list(description(contract, [])["inputs"])


def _is_image(contract: Contract) -> bool:
    return len(contract.input_shape) == 3 and not contract.columns.features


def _input(name: str, shape: tuple[int, ...], contract: Contract) -> dict[str, Any]:
    """A row of an input."""
    content: dict[str, Any] = {"shape": ["batch", *shape], "type": "float32"}
    if name == "image":
        return content | {"mode": contract.columns.mode, "transform": plain(contract.transform)}
    if contract.columns.features and len(shape) == 1:
        columns = [plain(each) | {"inputs": each.inputs} for each in contract.columns.features]
        return content | {"columns": [_with_short_kind(each) for each in columns]}
    return content


def _output(target: Target) -> dict[str, Any]:
    """A row of an output."""
    content: dict[str, Any] = {"kind": type(target).__name__}
    if target.class_names is not None:
        content["classes"] = list(target.class_names)
    if getattr(target, "unit", None):
        content["unit"] = target.unit  # type: ignore[attr-defined]
    return content


def _with_short_kind(content: dict[str, Any]) -> dict[str, Any]:
    """The class by its name alone."""
    short: dict[str, Any] = {"kind": content["@kind"].rpartition(".")[2]}
    for key, value in content.items():
        if key != "@kind":
            short[key] = [_with_short_kind(each) for each in value] if key == "parts" else value
    return short
