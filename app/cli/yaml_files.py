"""What a file of the configuration must be before it is parsed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from models.errors import ConfigurationError

LARGEST = 1_000_000  # values in a file, its aliases written out
KEY = "config"


def check_yaml(path: Path) -> None:
    """Refuse a file that is not YAML, or says something twice.

    Raises:
        ValueError: It is no file, not text in UTF-8, empty, broken, has a key twice, or is too large.
    """
    if not path.is_file():
        raise ConfigurationError(KEY, "must be a file", f"{path}, which is none")
    root = _root(path)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(KEY, f"{path} must have keys and values", "nothing" if root is None else root.value)
    if (size := _size(root, {})) > LARGEST:
        rule = f"{path} must have at most {LARGEST:,} values, its aliases written out"
        raise ConfigurationError(KEY, rule, f"{size:,}")
    for mapping in _mappings(root):
        names = [key.value for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                line = mapping.start_mark.line + 1
                raise ConfigurationError(KEY, f"{path} must have a key once", f"{name!r} twice, from line {line} on")


def _root(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#x} at {error.start}"
        raise ConfigurationError(KEY, f"{path} must be text in UTF-8", found) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(KEY, f"{path} must be YAML", f"in line {line}: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        raise ConfigurationError(KEY, f"{path} must be YAML", f"{error.reason} at {error.position}") from error


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    for each in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from each if isinstance(each, tuple) else (each,)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values under a node, counted as often as it is named; a node within itself has more than any file."""
    if id(node) not in known:
        known[id(node)] = LARGEST + 1  # while it is being counted
        known[id(node)] = 1 + sum(_size(each, known) for each in _children(node))
    return known[id(node)]


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    seen, open_ = {id(root)}, [root]
    while open_:
        node = open_.pop()
        if isinstance(node, yaml.MappingNode):
            yield node
        new = [each for each in _children(node) if id(each) not in seen]
        seen |= {id(each) for each in new}
        open_ += new
