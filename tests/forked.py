"""`train.py` many times, each in a process of its own, for the price of one start.

As a script it imports everything once, and then forks for every line of JSON, [folder, arguments], on standard input.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

LOG = "forked.log"


class Forks:
    """Runs `train.py` in a fresh fork, in the current folder, and gives its exit code, negative for a signal."""

    def __init__(self) -> None:
        path = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> None:
        print(json.dumps([str(Path.cwd()), arguments]), file=self.process.stdin, flush=True)
        found = int(self.process.stdout.readline())
        assert found == code, f"exit code {found}\n{Path(LOG).read_text()}"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    from app.cli import main  # nothing is computed here: a fork has none of the threads that torch starts for it

    for line in sys.stdin:
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        signal.alarm(300)  # ends this process, should it hang
        folder, arguments = json.loads(line)
        os.chdir(folder)
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        main(arguments)
        return


if __name__ == "__main__":
    serve()
