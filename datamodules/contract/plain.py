"""Dataclasses as plain values, which a checkpoint can hold, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from datamodules.errors import DataError

KIND = "@kind"  # the key of the class, `module.Class`, which no task or column can be called


def plain(value: Any) -> Any:
    """Dataclasses, and tuples and mappings of them, as dicts with their `kind`; other values as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return {KIND: kind} | {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return tuple(map(plain, value)) if isinstance(value, tuple | list) else value


def built(value: Any, base: type) -> Any:
    """What `plain` made plain.

    Nothing is imported for it: plain values from a file must not run code.

    Args:
        value: The plain values.
        base: What all dataclasses in them must be of.

    Raises:
        ValueError: A kind is not of the base, is of a module that is not imported, or has other fields.
    """
    if isinstance(value, Mapping):
        parts = {name: built(each, base) for name, each in value.items() if name != KIND}
        return _class(str(value[KIND]), base, parts) if KIND in value else parts
    return tuple(built(each, base) for each in value) if isinstance(value, tuple | list) else value


def _class(kind: str, base: type, parts: dict[str, Any]) -> Any:
    module, _, name = kind.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, base) and is_dataclass(found)):
        rule = f"must be a dataclass of the kind {base.__name__}, in a module that is imported"
        raise DataError(kind, rule, repr(found))
    try:
        return found(**parts)
    except TypeError as error:
        raise DataError(kind, "must have the fields that it had", str(error)) from error
