"""What a trained network takes and gives: kept with its weights, for every later use of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from datamodules.contract.features import Feature
from datamodules.contract.plain import built, plain
from datamodules.errors import DataError
from datamodules.targets import Target

Shape = tuple[int, ...]
_force: ContextVar[Contract | None] = ContextVar("contract", default=None)


@dataclass(frozen=True)
class Columns:
    """Where a table has what the network takes.

    Args:
        image: The column of image files, or None.
        mode: Of images in files: "RGB" for three channels, "L" for grey; None where nobody says.
        features: The feature columns, in the order of the inputs.
        targets: Task → the column of its labels, as far as there are such.
    """

    image: str | None = None
    mode: str | None = None
    features: tuple[Feature, ...] = ()
    targets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contract:
    """What a network was trained for.

    Args:
        targets: Task → what its label is, with the statistics of the training split.
        input_shape: Shape of one row's input, or one a modality.
        columns: Where a table has it.
        transform: What is done to an image before the network sees it, as `Transforms.recorded` tells.
        whole: Whether the network is used or trained further as it is; else another one starts from it, and takes the
            targets whose heads it keeps.
    """

    targets: Mapping[str, Target]
    input_shape: Shape | Mapping[str, Shape]
    columns: Columns = Columns()
    transform: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = True

    def plain(self) -> dict[str, Any]:
        """It as plain values.

        Raises:
            ValueError: A target cannot be told by them.
        """
        content = {
            "targets": plain(self.targets),
            "input_shape": plain(self.input_shape),
            "columns": {name: plain(getattr(self.columns, name)) for name in ("image", "mode", "features", "targets")},
            "transform": plain(self.transform),
        }
        for task, target in self.targets.items():
            if _found(content["targets"][task]) != target:
                rule = "must be a dataclass of plain values, so that a checkpoint can keep it"
                raise DataError(f"data.targets.{task}", rule, type(target).__name__)
        return content

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Contract:
        """What `plain` made plain.

        Raises:
            ValueError: It is something else.
        """
        columns = content["columns"]
        features = built(columns["features"], Feature)
        contract = cls(
            built(content["targets"], Target),
            content["input_shape"],
            Columns(**{**columns, "features": features}),
            content["transform"],
        )
        shape = contract.input_shape
        kinds = {
            "targets": _are(contract.targets, Target),
            "input_shape": all(_is_shape(each) for each in (shape.values() if isinstance(shape, Mapping) else [shape])),
            "columns.image": isinstance(contract.columns.image, str | None),
            "columns.mode": contract.columns.mode in (None, "RGB", "L"),
            "columns.features": isinstance(features, tuple) and _are(dict(enumerate(features)), Feature),
            "columns.targets": _are(contract.columns.targets, str),
            "transform": isinstance(contract.transform, Mapping),
        }
        for name, holds in kinds.items():
            if not holds:
                raise DataError(f"contract.{name}", "must be as it was written")
        return contract

    def starting(self, reset_head: bool) -> Contract:
        """It for another network that starts from this one, whose heads it may leave."""
        return replace(self, targets={} if reset_head else self.targets, whole=False)


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, Mapping) and all(isinstance(each, kind) for each in values.values())


def _is_shape(sizes: Any) -> bool:
    return isinstance(sizes, tuple) and all(isinstance(size, int) and size > 0 for size in sizes)


def _found(content: Any) -> Any:
    """What will be read of a target, None if nothing can be."""
    try:
        return built(content, Target)
    except DataError:
        return None


@contextmanager
def under(contract: Contract | None) -> Iterator[None]:
    """Let sources and data modules that are built within take what the contract says, in place of working it out."""
    token = _force.set(contract)
    try:
        yield
    finally:
        _force.reset(token)


def contract_in_force() -> Contract | None:
    """The contract that is to be taken, if there is one."""
    return _force.get()
