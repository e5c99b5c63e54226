"""What Tab completes, asked of bash as a user's bash asks."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

SIZE = 300_000  # characters of a script; jsonargparse's own has 1.4 billion
TYPED = {  # what is typed → what it may become
    "./train.py f": "fit",
    "./train.py fit --data.ev": "--data.eval_batch_size",
    "./train.py fit --monitor_mode ma": "max",
    "./train.py export --format to": "torch",
    "./train.py predict --overwrite t": "true",
    "train.py serve --limits.me": "--limits.megabytes",
    "train.py fit --config conf": "configs",
    "train.py --help_": "--help_all",
}
ASKING = """
source "$1"
shift
for typed in "$@"; do
    COMP_WORDS=($typed); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _shtab_train_py train.py "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[*]}"
done
"""


def script(train_here: Callable, capfd: pytest.CaptureFixture, shell: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        train_here("--print_completion", shell)
    printed = str(capfd.readouterr().out)
    assert len(printed) < SIZE
    return printed


def test_bash_completes(train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "completion").write_text(script(train_here, capfd, "bash"))
    (tmp_path / "configs").mkdir()
    asked = ["bash", "-c", ASKING, "bash", "completion", *TYPED]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert dict(zip(TYPED, done.stdout.splitlines(), strict=True)) == TYPED
    assert "complete -o bashdefault -F _shtab_train_py train.py" in (tmp_path / "completion").read_text()


def test_zsh_gets_a_script(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    assert script(train_here, capfd, "zsh").startswith("#compdef train.py")


def test_the_program_starts_by_its_name() -> None:
    assert (ROOT / "train.py").stat().st_mode & 0o111
    assert (ROOT / "train.py").read_text().startswith("#!/usr/bin/env python3\n")
