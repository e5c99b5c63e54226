"""How a run's threads wait, and how many each rank has: Python and libgomp begin anew, as for a user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL
from forked import WATCHDOG


def environment(**given: str) -> dict[str, str]:
    """That of a user who says nothing of threads but what is given."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    return own | {"PYTHONPATH": str(ROOT / "tests"), "OMP_DISPLAY_ENV": "verbose"} | given


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_threads_wait_asleep_and_ranks_share_the_cores(tmp_path: Path, ranks: int) -> None:
    several = ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"] if ranks > 1 else []
    spy = ["--trainer.callbacks+=spies.RecordThreads", "--trainer.callbacks.folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(SMALL), "--trainer.fast_dev_run", "1",
         *several, *spy],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=WATCHDOG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("GOMP_SPINCOUNT = '3000'") == done.stderr.count("GOMP_SPINCOUNT = ") >= ranks
    threads = [int((tmp_path / f"threads-{rank}").read_text()) for rank in range(ranks)]
    if ranks > 1:
        assert threads == [max(1, len(os.sched_getaffinity(0)) // ranks)] * ranks


@pytest.mark.slow
def test_what_the_user_says_of_waiting_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", "--config", "nowhere.yaml"],
        cwd=tmp_path, env=environment(OMP_WAIT_POLICY="active"), capture_output=True, text=True, timeout=WATCHDOG,
    )  # fmt: skip
    assert done.returncode == 2
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in done.stderr
