"""What a configuration may name and say at all, checked before anything that it names is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from jsonargparse import Namespace
from jsonargparse._typehints import is_subclass_spec  # what the parser calls
from jsonargparse._util import import_object  # as the parser finds what it calls

from models.errors import ConfigurationError

SPACE = "search.space"  # values of other keys, which are parsed as such in each trial


@dataclass
class Fitting:
    """A walk over a parsed configuration.

    The parser has compared every class with the type of its key; a function that it would call for a key that takes a
    `Callable` it has not.

    Attributes:
        types: Key → type that it wants, as far as the parser knows it.
        keys: Class or function → the first key that names it, of those that have been walked over.
    """

    types: dict[str, Any]
    keys: dict[Any, str] = field(default_factory=dict)

    def check(self, config: Namespace) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: A number is not finite, a value is missing, or a function does not say that it makes what its
                key wants.
        """
        for key, value in vars(config).items():
            self._check(key, value, None)

    def _check(self, key: str, value: Any, wanted: Any) -> None:
        if key == SPACE:
            return
        wanted = self.types.get(key, wanted)
        if is_infinite(value):
            raise ConfigurationError(key, "must be a finite number", value)
        if value is None and not may_be_none(wanted):
            raise ConfigurationError(key, f"must be {text(wanted)}", "null")
        if isinstance(value, (list, tuple)):
            for row, each in enumerate(value):
                self._check(f"{key}.{row}", each, wanted)
        elif is_named(value):
            self._check_named(key, value, wanted)
        elif isinstance(value, (Namespace, dict)):
            options = hints_of(*leaves(wanted))
            for name, each in items(value):
                self._check(f"{key}.{name}", each, options.get(name, wanted))

    def _check_named(self, key: str, value: Any, wanted: Any) -> None:
        """Check what a `class_path` names, and its options."""
        named: Any = import_object(value["class_path"])
        if not isinstance(named, type):
            check_function(key, value["class_path"], named, wanted)
        self.keys.setdefault(named, key)
        options, free = hints_of(named), unusual(named)
        for part in ("init_args", "dict_kwargs"):
            for name, each in items(value.get(part) or {}):
                if name not in free:
                    self._check(f"{key}.{name}", each, options.get(name))


def check_function(key: str, path: str, function: Any, wanted: Any) -> None:
    """Refuse a function that does not say, by the type that it returns, that it makes what a key wants.

    Raises:
        ValueError: It does not.
    """
    returned = hints(function).get("return", NoneType)
    if returned in (NoneType, Any, object):
        raise ConfigurationError(key, "must name a class, or a function with an annotated return type", path)
    if wanted is not None and not any(fits(returned, leaf) for leaf in leaves(wanted)):
        raise ConfigurationError(key, f"must name a class or a function that makes {text(wanted)}", path)


def fits(returned: Any, wanted: Any) -> bool:
    """Whether what a function returns is what is wanted: one of a class, or something to call that returns it."""
    if wanted is Any:
        return True
    if not is_callable(wanted):
        return isinstance(returned, type) and isinstance(wanted, type) and issubclass(returned, wanted)
    if is_callable(returned):
        return fits(made_by(returned), made_by(wanted))
    return made_by(wanted) is Any and isinstance(returned, type) and issubclass(returned, Callable)  # type: ignore[arg-type]


def is_callable(kind: Any) -> bool:
    """Whether a type is of something to call, such as a `Callable[..., Optimizer]`."""
    return kind is Callable or get_origin(kind) is Callable


def made_by(kind: Any) -> Any:
    """What a call of a `Callable` returns."""
    return (get_args(kind) or (Any,))[-1]


def leaves(wanted: Any) -> Iterator[Any]:
    """The types that the values of a union or a container may have."""
    origin = get_origin(wanted)
    if origin in (Union, UnionType) or (isinstance(origin, type) and issubclass(origin, (list, tuple, Mapping))):
        for each in get_args(wanted):
            yield from leaves(each)
    elif wanted is not None:
        yield wanted


def hints_of(*named: Any) -> dict[str, Any]:
    """Option → its type, of classes and functions that are called with it."""
    found: dict[str, Any] = {}
    for each in named:
        found |= hints(inspect.getattr_static(each, "__init__") if isinstance(each, type) else each)
    return found


def hints(function: Any) -> dict[str, Any]:
    """The annotations of a function; nothing where it has none that can be read."""
    try:
        return get_type_hints(function)
    except (TypeError, NameError, AttributeError, SyntaxError):
        return {}


def unusual(named: Any) -> set[str]:
    """The options that are not finite, or nothing at all, unless one says otherwise."""
    try:
        parameters = inspect.signature(named).parameters
    except (TypeError, ValueError):  # of a builtin
        return set()
    return {name for name, each in parameters.items() if each.default is None or is_infinite(each.default)}


def may_be_none(wanted: Any) -> bool:
    """Whether a key's type has None among its values; one that is not known may have."""
    if get_origin(wanted) in (Union, UnionType):
        return any(map(may_be_none, get_args(wanted)))
    return wanted in (None, NoneType, Any, object) or get_origin(wanted) is not None


def is_infinite(value: Any) -> bool:
    """Whether it is a number, or numbers, not all of which are finite."""
    if isinstance(value, torch.Tensor):
        return not value.isfinite().all()
    return isinstance(value, float) and not isfinite(value)


def is_named(value: Any) -> bool:
    """Whether it names a class or function that is to be called."""
    return isinstance(value, (Namespace, dict)) and bool(is_subclass_spec(value))  # type: ignore[no-untyped-call]


def items(value: Any) -> list[tuple[str, Any]]:
    """The keys of a part of the configuration, and their values."""
    return list((vars(value) if isinstance(value, Namespace) else value).items())


def text(wanted: Any) -> str:
    """The types that a key wants, at once or when what it names is called, as they are shown."""
    made = [made_by(each) if is_callable(each) else each for each in leaves(wanted)]
    return " or ".join(getattr(each, "__name__", str(each)) for each in made if each is not NoneType)
