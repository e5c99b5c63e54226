"""What the parser says of a name that there is not, in our words, and the names near it that there are."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from jsonargparse._actions import _ActionHelpClassPath
from jsonargparse._link_arguments import ActionLink
from jsonargparse._parameter_resolvers import get_signature_parameters
from jsonargparse._typehints import get_all_subclass_paths  # which names the parser knows
from jsonargparse._util import import_object

from app.configuration.fitting import hints_of, is_callable, leaves, made_by
from models.errors import near_it

LAST_KEY = re.compile(r'.*Parser key "([^"]+)": ', re.DOTALL)
OPTION = re.compile(r"Option '([^']+)' is not accepted")
PATH = re.compile(r"class_path[ =]'([\w.]+)'")
CLASS = re.compile(r"Expected a dot import path string: ([^\s(]*[^\s(.])")
MODULE = re.compile(r"((?:No module named|module) '[^:]*?)\.? (?:Got value: |\(found )([\w.]+)")
LITERAL = re.compile(r"Expected a typing\.Literal(\[[^\]]*\])")
VALUE = re.compile(r"(?:Got value: |\(found )([^\s{\[()]+)\)?")
KEY = re.compile(r"Subcommand '(\w+)' does not accept option '([^']+)'")
ARGUMENTS = re.compile(r"unrecognized arguments: (?:--?)?([^\s=]+)")
CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from ([^)]*)\)")


def reworded(key: str, text: str, parser: Any) -> str:
    """An error of the parser.

    Args:
        key: Of the configuration, as far as the parser tells it; else empty.
        text: What the parser says is wrong, on one line.
        parser: It, or the parser of a subcommand.
    """
    options = options_of(parser)
    if not key:
        return _misplaced(text, parser) or _unknown_key(text, options)
    if inner := LAST_KEY.match(text):
        key, text = f"{key}.{inner[1]}", text[inner.end() :]
    for rule in (_unknown_option, _unknown_class, _unknown_word):
        if found := rule(text, lambda: wanted_of(key, options)):
            return f"{key}: {found}"
    return f"{key}: {text}"


def options_of(parser: Any) -> dict[str, Any]:
    """Key → its option, of a parser and those of its subcommands."""
    inner = parser._subcommands_action._name_parser_map.values() if parser._subcommands_action else ()
    actions = [action for each in (parser, *inner) for action in each._actions]
    return {each.dest: each for each in actions if not isinstance(each, ActionLink | _ActionHelpClassPath)}


def wanted_of(key: str, options: Mapping[str, Any]) -> list[Any]:
    """The types that a key takes, which may be one of a class's options."""
    known = max((dest for dest in options if f"{key}.".startswith(f"{dest}.")), key=len, default=None)
    if known is None:
        return []
    wanted = [*leaves(getattr(options[known], "_typehint", None))]
    for name in filter(None, key[len(known) + 1 :].split(".")):
        inner = [hints_of(import_object(path)) for path in _paths(wanted)]
        wanted = [leaf for each in inner if name in each for leaf in leaves(each[name])]
    return wanted


def _paths(wanted: Iterable[Any]) -> Iterator[str]:
    """The paths of all classes that are known so far and fit, or that make what fits when they are called."""
    for each in wanted:
        kind = made_by(each) if is_callable(each) else each
        if isinstance(kind, type) and kind.__module__ != "builtins":
            yield from get_all_subclass_paths(kind)


def _class_names(wanted: Iterable[Any]) -> list[str]:
    """Their names; where two have the same one, their paths."""
    paths = list(dict.fromkeys(_paths(wanted)))
    names = [path.split(".")[-1] for path in paths]
    return [name if names.count(name) == 1 else path for name, path in zip(names, paths, strict=True)]


def _unknown_option(text: str, wanted: Callable[[], list[Any]]) -> str | None:
    """Of a class: it has no option of this name."""
    found, path = OPTION.search(text), PATH.search(text)
    if not found or not path:
        return None
    given = [get_args(each)[0] for each in wanted() if is_callable(each)]  # the first arguments are not options
    skipped = max((len(each) for each in given if isinstance(each, list)), default=0)
    names = [each.name for each in get_signature_parameters(import_object(path[1]))[skipped:]]
    return f"{path[1].split('.')[-1]} has no option {found[1]!r}{near_it(found[1].split('.')[0], names)}"


def _unknown_class(text: str, wanted: Callable[[], list[Any]]) -> str | None:
    """There is no class of this name."""
    if found := CLASS.search(text):
        word, why = found[1], ""
    elif found := MODULE.search(text):
        word, why = found[2], f" ({found[1]})"
    else:
        return None
    literals, classes = _literals(text), _class_names(wanted())
    rule = _either([*literals, "the name or path of a class"])
    return f"must be {rule}, found {word}{why}{near_it(word.split('.')[-1], [*literals, *classes])}"


def _unknown_word(text: str, wanted: Callable[[], list[Any]]) -> str | None:
    """The value is none of a few words."""
    literals, found = _literals(text), VALUE.search(text)
    if not literals or not found:
        return None
    numbers = ["a number"] if {int, float} & {*filter(lambda kind: isinstance(kind, type), wanted())} else []
    return f"must be {_either([*literals, *numbers])}, found {found[1]}{near_it(found[1], literals)}"


def _literals(text: str) -> list[str]:
    return list(dict.fromkeys(str(each) for values in LITERAL.findall(text) for each in literal_eval(values)))


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _misplaced(text: str, parser: Any) -> str | None:
    """An option before the command, whose value the parser takes for the command."""
    first = parser.args[0].split("=")[0] if getattr(parser, "args", None) else ""
    if not CHOICE.search(text) or not first.startswith("-") or first in parser._option_string_actions:
        return None
    own = [each.dest for each in parser._actions if each.option_strings]
    return f"{first}: must stand after the command, whose option it is{near_it(first.lstrip('-'), own)}"


def _unknown_key(text: str, options: Mapping[str, Any]) -> str:
    """An option or a subcommand that there is not."""
    if found := CHOICE.search(text):
        names = re.findall(r"\w+", found[2])
        return f"the command: must be {_either(names)}, found {found[1]}{near_it(found[1], names)}"
    if found := KEY.match(text):
        word = re.sub(r"\.(class_path|init_args)\b.*", "", found[2])
        return f"{found[2]}: must be an option of {found[1]}{near_it(word, options)}"
    if found := ARGUMENTS.search(text):
        return f"{text}{near_it(found[1], options)}"
    return text
