"""The options that print help: `--help` a page, `--help_all` everything, `--print_completion` a script for a shell."""

from __future__ import annotations

from argparse import SUPPRESS, _HelpAction
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from app.cli.completion import PrintCompletion
from app.help import MAIN, file_of


class FirstPage(_HelpAction):
    """Prints the page that `const` names."""

    def __init__(self, option_strings: list[str], const: str, help: str, dest: str = SUPPRESS) -> None:
        super().__init__(option_strings, dest, help=help)
        self.const = const

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Print it, and end the program."""
        print(file_of(str(self.const)).read_text(encoding="utf-8"), end="")
        parser.exit()


def add_help(parser: LightningArgumentParser, page: str) -> None:
    """Add the options `--help` and `--help_all`, and without a command `--print_completion`."""
    parser.add_argument("-h", "--help", action=FirstPage, const=page, help="Show the options that most need, and exit.")
    parser.add_argument("--help_all", action=_HelpAction, help="Show every option, and exit.")
    if page == MAIN:
        words = "Print a script by which a shell completes options at Tab, and exit."
        parser.add_argument("--print_completion", action=PrintCompletion, help=words)
