"""The first pages of help: what they say is so, and printing one imports nothing large."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from app.cli.commands import commands
from app.cli.help_pages import pages
from app.help import MAIN, file_of

PAGES = sorted(path.stem for path in (ROOT / "app/help").glob("*.txt"))
LINES, COLUMNS = 45, 100
PRINTING = """
import io, json, runpy, sys
from contextlib import redirect_stdout
printed = []
for arguments in json.loads(sys.argv[1]):
    sys.argv, out = ["train.py", *arguments], io.StringIO()
    try:
        with redirect_stdout(out):
            runpy.run_path("train.py", run_name="__main__")
    except SystemExit as ending:
        printed.append([out.getvalue(), ending.code])
print(json.dumps([printed, sorted(sys.modules)]))
"""


def text_of(page: str) -> str:
    return file_of(page).read_text(encoding="utf-8")


def examples_of(page: str) -> list[list[str]]:
    """The arguments of each command that a page shows as it is to be typed."""
    return [line.split()[2:] for line in re.findall(r"^  python train\.py .*", text_of(page), flags=re.MULTILINE)]


def test_every_page_is_what_the_parsers_say() -> None:
    """`python -m app.cli.help_pages` writes them anew."""
    assert {page: text_of(page) for page in PAGES} == pages()
    assert {MAIN, *commands()} == {*PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_one_page_with_examples_and_says_where_the_rest_is(page: str) -> None:
    lines = text_of(page).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert len(examples_of(page)) >= 2
    assert "--help_all" in text_of(page)


def test_printing_a_page_imports_nothing_large() -> None:
    asked = {"": MAIN, "--help": MAIN, "-h": MAIN, "fit --config nowhere.yaml -h": "fit"}
    asked |= {f"{page} --help": page for page in PAGES if page != MAIN}
    order = json.dumps([line.split() for line in asked])
    done = subprocess.run([sys.executable, "-c", PRINTING, order], cwd=ROOT, capture_output=True, text=True, check=True)
    printed, modules = json.loads(done.stdout)
    assert printed == [[text_of(page), 0] for page in asked.values()]
    assert {name for name in modules if name.split(".")[0] == "app"} == {"app", "app.help", "app.help.pages"}
    assert not {"torch", "lightning", "jsonargparse", "numpy", "yaml"} & {*modules}


def test_the_parser_prints_the_same_page_and_all_else_too(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    for arguments, page in {("--help",): MAIN, ("serve", "-h"): "serve"}.items():
        with pytest.raises(SystemExit, match="0"):
            train_here(*arguments)
        assert capfd.readouterr().out == text_of(page)
    with pytest.raises(SystemExit, match="0"):
        train_here("predict", "--help_all")
    printed = capfd.readouterr().out
    for option in ("--model.gradients.every", "--trainer.sync_batchnorm", "--probabilities", "--help_all"):
        assert f"\n  {option}" in printed


SHORT = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"]
MORE = {
    "search": [*SHORT[:4], "--search.trials", "1", "--search.folds.k", "2"],
    "data": [],
    "layers": [],
    "branches": [],
    "export": [],
    "predict": ["--trainer.limit_predict_batches", "1"],
}


@pytest.mark.slow
def test_each_example_runs(train_here: Callable, tmp_path: Path) -> None:
    """Those that train first, as the others read their run; what serves is tried in the tests of the service."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    fit_first = sorted((page for page in PAGES if page != "serve"), key=lambda page: page != "fit")
    done: list[list[str]] = []
    for arguments in (arguments for page in fit_first for arguments in examples_of(page)):
        if arguments not in done:
            train_here(*arguments, *MORE.get(arguments[0], SHORT))
            done.append(arguments)
