"""A disk that is full ends a command in one line; what was there before is whole, and nothing half-written is left."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import SMALL, scalars

from app.runs import LOG, run_log, tell

SHORT = "--trainer.limit_train_batches", "1"
RUN = Path("runs/small/version_0")


@pytest.fixture
def refused(train_here: Callable, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """Runs a command that must be refused, and gives its last line; no traceback may come before it."""

    def refused(*command: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit, match="2"):
            train_here(*command)
        error = capfd.readouterr().err
        assert "Traceback" not in error
        assert not list(Path().rglob("*.part"))
        line = str(error.strip().splitlines()[-1])
        assert line.startswith("error: ")
        return line

    return refused


def fill(path: Path) -> None:
    """Let what is written to become `path` meet a full disk, as /dev/full is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")


@contextmanager
def file_size(most: int) -> Iterator[None]:
    """Let no file grow further than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


SPACE = "{data.sampling.init_args.batch_size: {choices: [125, 250]}}"
FULL = "No space left on device"


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "checkpoints/best.ckpt", "results.json", "config.yaml"])
def test_of_a_run_that_goes_on(train_here: Callable, refused: Callable[..., str], name: str) -> None:
    """Each of its two epochs is better than the one before."""
    fit = "fit", "--config", str(SMALL), "--name", "small"
    train_here(*fit, "--trainer.max_epochs", "1")
    before = (RUN / name).read_bytes()
    fill(RUN / name)
    assert refused(*fit, "--trainer.max_epochs", "2", "--ckpt_path", "last").endswith(f"{RUN / name}: {FULL}")
    assert (RUN / name).read_bytes() == before
    train_here(*fit, "--trainer.max_epochs", "2", "--ckpt_path", "last")
    assert torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 16


def test_of_predictions_and_of_the_sheet(train_here: Callable, refused: Callable[..., str]) -> None:
    small = "--config", str(SMALL), "--name", "small"
    train_here("fit", *small, *SHORT, "--trainer.max_epochs", "1")
    predict = "predict", *small, "--overwrite", "true"
    table = *predict, "--output", "p.parquet"
    for arguments, file in (
        (predict, RUN / "predictions.csv"),
        (table, Path("p.parquet")),
        (("data", *small), RUN.parent / "data.png"),
    ):
        train_here(*arguments)
        before = file.read_bytes()
        fill(file)
        assert refused(*arguments) == f"error: {file}: {FULL}"
        assert file.read_bytes() == before


@pytest.mark.parametrize("most", [12_000, 24_000])
def test_of_an_event_file(refused: Callable[..., str], most: int) -> None:
    """Which TensorBoard writes in a thread of its own; its first part is there."""
    fit = "fit", "--config", str(SMALL), "--trainer.max_epochs", "30", "--trainer.enable_checkpointing", "false"
    handler = signal.getsignal(signal.SIGINT)
    with file_size(most):
        line = refused(*fit)
    assert line == f"error: {RUN}: File too large"
    assert signal.getsignal(signal.SIGINT) is handler
    assert "loss/train/total" in scalars(RUN)
    assert not (RUN / "results.json").exists()


def test_of_a_log(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """What it would say has been printed."""
    (tmp_path / LOG).symlink_to("/dev/full")
    with run_log() as log:
        log.begin(tmp_path)
        tell("a line")
    assert capfd.readouterr() == ("a line\n", "")


@pytest.mark.parametrize("most", [3_000, 60_000])
def test_of_a_search(refused: Callable[..., str], most: int) -> None:
    """Its database, which Optuna writes."""
    with file_size(most):
        line = refused("search", "--config", str(SMALL), "--search.space", SPACE)
    assert line.startswith("error: runs/small/search.db: must be a database that can be written, found ")
    assert line.endswith("disk I/O error")


def test_of_a_search_that_is_no_database(refused: Callable[..., str]) -> None:
    Path("runs/small").mkdir(parents=True)
    Path("runs/small/search.db").write_text("a text " * 30)
    assert refused("search", "--config", str(SMALL), "--search.space", SPACE).endswith("file is not a database")


def test_of_a_checkpoint_that_is_too_large(refused: Callable[..., str]) -> None:
    with file_size(20_000):
        line = refused("fit", "--config", str(SMALL), "--trainer.max_epochs", "1")
    assert line.endswith(f"{RUN / 'checkpoints/last.ckpt'}: File too large")
    assert not RUN.exists()  # nothing had begun
