"""Which room may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"app", "datamodules", "models", "train"}
FORBIDDEN = {
    "models": {"app", "datamodules", "lightning", "train"},
    "datamodules": {"app", "models", "train"},
    "app": {"train"},
}
ALONE = {
    "app/transfer": {"torch", "app", "models"},
    "app/balancing": {"torch", "torchjd", "numpy", "typing_extensions", "app", "models"},
}


def imports(file: Path) -> set[str]:
    """Top-level packages that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_imports_only_what_it_may(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert not imports(file) & FORBIDDEN[room], file


@pytest.mark.parametrize("room", ALONE)
def test_room_needs_few_packages(room: str) -> None:
    import sys

    for file in (ROOT / room).rglob("*.py"):
        assert imports(file) <= ALONE[room] | sys.stdlib_module_names, file


def test_every_room_has_something_in_it() -> None:
    for room in (path for top in ("app", "models", "datamodules") for path in (ROOT / top).rglob("*") if path.is_dir()):
        if room.name != "__pycache__":
            assert [path for path in room.glob("*.py") if path.name != "__init__.py"] or any(room.glob("*/*.py")), room
