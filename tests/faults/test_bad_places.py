"""What stands in the way of a run's files, and code of the user's own that ends the program: one line each."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

FIT = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
RUN = Path("runs/small/version_0")
FILES = ["config.yaml", "results.json", "predictions.csv", ".lock", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]
MODULES = {
    "import sys; sys.exit(3)": "must not end the program, found an exit with 3",
    "raise RuntimeError('broken')": "broken",
    "def f(:": "invalid syntax",
    "import nothing_of_that_name": "nothing_of_that_name",
}


@pytest.fixture
def refused(train_here: Callable, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """The last line of a run that is refused."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ending:
            train_here(*arguments)
        last = capfd.readouterr().err.strip().splitlines()[-1]
        assert ending.value.code == 2, last
        assert last.startswith("error: "), last
        return last

    return run


@pytest.mark.parametrize("place", ["runs", "runs/small"])
def test_a_file_where_runs_go(refused: Callable[..., str], place: str) -> None:
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).touch()
    assert "Not a directory" in refused(*FIT)
    assert Path(place).is_file()


@pytest.mark.parametrize("target", ["/nowhere/at/all", "/proc"])
def test_a_link_to_where_nothing_can_be_made(refused: Callable[..., str], target: str) -> None:
    Path("runs").symlink_to(target)
    assert refused(*FIT).startswith("error: runs: ")


def test_what_is_in_the_place_of_a_file_of_a_run(train_here: Callable, refused: Callable[..., str]) -> None:
    train_here(*FIT)
    kept = {path: path.read_bytes() for path in (RUN / "checkpoints").iterdir()}
    for name in FILES:
        place = RUN / name
        before = place.read_bytes() if place.exists() else None
        place.unlink(missing_ok=True)
        place.mkdir()
        read = RUN / "checkpoints" / ("best.ckpt" if "last" in name else "last.ckpt")
        assert f"{place}: must be a file, found a folder" in refused(*FIT, "--ckpt_path", str(read))
        place.rmdir()
        if before is not None:
            place.write_bytes(before)
    assert {path: path.read_bytes() for path in (RUN / "checkpoints").iterdir()} == kept
    shutil.rmtree(RUN / "checkpoints")
    (RUN / "checkpoints").touch()
    assert "'best' wants a file" in refused("predict", "--config", str(SMALL))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"], ids=len)
def test_a_foreign_checkpoint(refused: Callable[..., str], content: bytes) -> None:
    Path("foreign.ckpt").write_bytes(content)
    for arguments in (["predict", "--ckpt_path"], ["fit", "--model.init_from"], ["fit", "--ckpt_path"]):
        line = refused(arguments[0], "--config", str(SMALL), arguments[1], "foreign.ckpt")
        assert f"{arguments[1][2:]}: must be a whole checkpoint, found foreign.ckpt" in line


@pytest.mark.parametrize("key", ["--ckpt_path", "--model.init_from"])
def test_a_pipe_as_a_checkpoint(refused: Callable[..., str], key: str) -> None:
    os.mkfifo("pipe")
    assert f"{key[2:]}: must be" in refused(*FIT, key, "pipe")


@pytest.mark.parametrize("content", MODULES)
def test_a_module_of_the_users_own(refused: Callable[..., str], content: str) -> None:
    Path("theirs.py").write_text(content)
    line = refused(*FIT, "--model.optimizer", "theirs.Optimizer")
    assert MODULES[content] in line
    assert "theirs" in line
