"""Scripts in processes of their own, one or several ranks together, for the price of one start.

As a script it imports everything once, and then forks for every line of JSON on standard input.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

TESTS = Path(__file__).parent
TRAIN = TESTS.parent / "train.py"
WATCHDOG = 600  # seconds after which a process that hangs is ended


class Forks:
    """Runs a script in fresh forks of one process that has imported everything, and nothing but imported."""

    def __init__(self) -> None:
        self._logs = tempfile.TemporaryDirectory()
        environment = {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """`train.py` in the current folder; on as many ranks as `--trainer.devices` says."""
        devices = [int(value) for option, value in pairwise(arguments) if option == DEVICES]
        return self.run(TRAIN, *arguments, ranks=max([1, *devices]), code=code)

    def run(
        self, script: Path, *arguments: str, ranks: int = 1, code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """A script in the current folder, on `ranks` processes as torchrun would start them.

        Gives what they wrote, and the first exit code other than 0, negative for a signal; `code` is what it must be.
        """
        from torch.distributed import TCPStore

        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if ranks > 1 else None
        environments = [_torchrun(rank, ranks, store.port) for rank in range(ranks)] if store else [{}]
        logs = [Path(self._logs.name) / stream for stream in ("stdout", "stderr")]
        for log in logs:
            log.write_text("")
        order = [str(Path.cwd()), [str(script), *arguments], environments, [str(log) for log in logs]]
        print(json.dumps(order), file=self._process.stdin, flush=True)
        codes = json.loads(self._process.stdout.readline())
        found = next((each for each in codes if each), 0)
        out, errors = (log.read_text() for log in logs)
        assert code is None or found == code, f"exit codes {codes}\n{out}\n{errors}"
        return subprocess.CompletedProcess([str(script), *arguments], found, out, errors)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._logs.cleanup()


DEVICES = "--trainer.devices"


def _torchrun(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The environment that torchrun gives to a rank; it, too, holds the store before the ranks begin."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    return {key: str(value) for key, value in {**place, **where, "TORCHELASTIC_RUN_ID": port}.items()}


def serve() -> None:
    from lightning.pytorch.utilities import rank_zero_only

    import app.cli  # noqa: F401  # nothing is computed here: a fork has none of the threads that torch starts for it

    for line in sys.stdin:
        folder, command, environments, logs = json.loads(line)
        children = []
        for environment in environments:
            if not (child := os.fork()):
                rank_zero_only.rank = int(environment.get("RANK", 0))  # as its import would have it
                run(folder, command, environment, logs)
                return
            children.append(child)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)


def run(folder: str, command: Sequence[str], environment: dict[str, str], logs: Sequence[str]) -> None:
    """Go on as `python <command>` in `folder`."""
    os.setsid()  # a signal to its group is not for the tests
    signal.alarm(WATCHDOG)
    os.chdir(folder)
    os.environ.update(environment)
    for number, path in enumerate([os.devnull, *logs]):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    sys.argv = list(command)
    sys.path.insert(0, str(Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    serve()
