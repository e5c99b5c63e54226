"""Whoever wants to know something of a label asks its target, and does not look at its kind."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THESE_MAY = (ROOT / "datamodules/targets", ROOT / "app/tasks")


def kinds_imported(tree: ast.AST) -> set[str]:
    """The names under which a module knows classes of `datamodules.targets`."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("datamodules.targets")
        for alias in node.names
        if not str(node.module).endswith(".maps")  # how labels move, not what they are
    }


def looked_at(tree: ast.AST) -> Iterator[ast.AST]:
    """What a module compares the kind of something with."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("isinstance" | "issubclass"), [_, kinds, *_]):
                yield kinds
            case ast.MatchClass(kind):
                yield kind
            case ast.Compare(ast.Call(ast.Name("type")), _, others):
                yield from others


def offences(code: str) -> list[str]:
    """Kinds of target that a module's code looks at."""
    tree = ast.parse(code)
    kinds = kinds_imported(tree)
    names = (each.id for kind in looked_at(tree) for each in ast.walk(kind) if isinstance(each, ast.Name))
    return [name for name in names if name in kinds]


@pytest.mark.parametrize("room", ["app", "datamodules", "models"])
def test_no_room_looks_at_the_kind_of_a_target(room: str) -> None:
    for file in sorted((ROOT / room).rglob("*.py")):
        if not any(file.is_relative_to(place) for place in THESE_MAY):
            assert not offences(file.read_text()), file


@pytest.mark.parametrize(
    "use",
    [
        "isinstance(target, Binary)",
        "isinstance(target, int | Binary)",
        "issubclass(type(target), (int, Binary))",
        "type(target) is Binary",
        "match target:\n    case Binary(names):\n        pass",
    ],
)
def test_every_way_of_looking_is_seen(use: str) -> None:
    assert offences(f"from datamodules.targets import Binary, Target\n{use}\nisinstance(target, int)") == ["Binary"]
