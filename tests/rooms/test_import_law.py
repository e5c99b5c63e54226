"""Which room may import which, and how large what stands in a room may be."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("app", "models", "datamodules")
FORBIDDEN = {
    "models": {"app", "datamodules", "lightning", "train"},
    "datamodules": {"app", "models", "train"},
    "app": {"train"},
}
ALONE = {
    "app/help": {"app"},
    "app/evaluation": {"numpy", "scipy", "app"},
    "app/network": {"torch", "app", "datamodules", "models"},
    "app/measuring": {"torch", "torchmetrics", "app", "models"},
    "app/transfer": {"torch", "app", "models"},
    "app/balancing": {"torch", "torchjd", "numpy", "typing_extensions", "app", "models"},
}
OTHER_ROOMS = {  # of app, that a room may import from
    "ranks": set(),
    "help": set(),
    "evaluation": set(),
    "tasks": set(),
    "configuration": {"network", "tasks"},
    "exports": {"network", "runs", "tasks"},
    "serving": {"exports", "runs"},
    "runs": {"configuration", "network", "ranks"},
    "balancing": {"ranks"},
    "network": {"tasks"},
    "measuring": {"balancing", "ranks", "tasks"},
    "transfer": {"network"},
}
LOOSE = 4  # files of app that are in no room
LINES, FUNCTION_LINES = 330, 15


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def files_of(room: str) -> list[Path]:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    return files


def name_of(file: Path) -> str:
    """A module's name; a package's where the file is its `__init__`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports from, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if is_module(name) else str(node.module) for name in inner)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def packages(file: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.split(".")[0] for name in imported(file)}


def executed(importer: str, name: str) -> Iterator[str]:
    """The modules that importing `name` runs; those that hold the importer are being run already."""
    parts = name.split(".")
    outer = (".".join(parts[:end]) for end in range(1, len(parts)))
    yield from (package for package in outer if not f"{importer}.".startswith(f"{package}."))
    yield name


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; none if there are no such."""
    done: set[str] = set()
    for start in graph:
        path, waiting = [start], [iter(sorted(graph[start]))]
        while path:
            following = next(waiting[-1], None)
            if following in path:
                return path[path.index(following) :]
            if following is None:
                done.add(path.pop())
                waiting.pop()
            elif following not in done:
                path.append(following)
                waiting.append(iter(sorted(graph[following])))
    return []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_imports_only_what_it_may(room: str) -> None:
    for file in files_of(room):
        assert not packages(file) & FORBIDDEN[room], file


@pytest.mark.parametrize("room", ALONE)
def test_room_needs_few_packages(room: str) -> None:
    for file in files_of(room):
        assert packages(file) <= ALONE[room] | sys.stdlib_module_names, file


@pytest.mark.parametrize("room", OTHER_ROOMS)
def test_room_of_the_application_knows_few_others(room: str) -> None:
    for file in files_of(f"app/{room}"):
        rooms = {name.split(".")[1] for name in imported(file) if name.startswith("app.")}
        assert rooms <= {room, *OTHER_ROOMS[room]}, file


@pytest.mark.parametrize("room", ["network", "measuring", "transfer", "balancing", "tasks"])
def test_room_runs_without_lightning(room: str) -> None:
    """Also by what it imports, and what that imports."""
    files = {name_of(file): file for top in ROOMS for file in files_of(top)}
    waiting = [name_of(file) for file in files_of(f"app/{room}")]
    seen = set(waiting)
    while waiting:
        module = waiting.pop()
        assert "lightning" not in packages(files[module]), module
        found = {each for name in imported(files[module]) for each in executed(module, name) if each in files}
        waiting += found - seen
        seen |= found


def test_most_files_are_in_rooms() -> None:
    loose = [path.name for path in (ROOT / "app").glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= LOOSE, loose


def test_one_file_of_datamodules_knows_lightning() -> None:
    knowing = [file.name for file in files_of("datamodules") if packages(file) & {"lightning", "pytorch_lightning"}]
    assert knowing == ["multitask.py"]


def test_one_room_calls_autograd() -> None:
    engine = set(files_of("app/balancing/engine"))
    for file in (file for room in ROOMS for file in files_of(room) if file not in engine):
        names = {node.attr for node in ast.walk(tree_of(file)) if isinstance(node, ast.Attribute)}
        assert "autograd" not in names, file


def test_ranks_speak_with_each_other_in_one_room_alone() -> None:
    through = {"all_gather", "all_reduce", "barrier", "broadcast", "reduce"}
    for file in (file for room in ROOMS for file in files_of(room)):
        nodes = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Attribute) and node.attr in through]
        owners = {getattr(node.value, "attr", getattr(node.value, "id", "")) for node in nodes}
        assert not owners & {"dist", "strategy"} or file.parent == ROOT / "app/ranks", file


def test_no_module_imports_one_that_imports_it() -> None:
    files = {name_of(file): file for room in ROOMS for file in files_of(room)}
    graph = {
        module: {each for name in imported(file) for each in executed(module, name) if each in files}
        for module, file in files.items()
    }
    assert cycle(graph) == []


def test_a_cycle_is_found_through_a_package() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]
    assert list(executed("p.x", "q.y.z")) == ["q", "q.y", "q.y.z"]
    assert list(executed("p.q.x", "p.q.y")) == ["p.q.y"]
    assert list(executed("p.x", "p")) == ["p"]
    assert list(executed("p", "p.x")) == ["p.x"]


@pytest.mark.parametrize("room", ROOMS)
def test_files_are_short(room: str) -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files_of(room)}
    assert {file: length for file, length in lengths.items() if length > LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_functions_are_short(room: str) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for file in files_of(room) for node in ast.walk(tree_of(file)) if isinstance(node, kinds)]
    assert np.percentile([lines_of(each) for each in functions], 90) <= FUNCTION_LINES


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of its body, without its docstring."""
    first = function.body[1 if ast.get_docstring(function) is not None else 0 :]
    return int(function.end_lineno or 0) - first[0].lineno + 1 if first else 0


def test_every_room_has_something_in_it() -> None:
    for room in (path for top in ROOMS for path in (ROOT / top).rglob("*") if path.is_dir()):
        if room.name != "__pycache__":
            assert [path for path in room.glob("*.py") if path.name != "__init__.py"] or any(room.glob("*/*.py")), room
