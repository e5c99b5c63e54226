"""What a shell completes at Tab, as a script: nothing of the program is started then."""

from __future__ import annotations

from argparse import SUPPRESS, Action
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from jsonargparse._common import NonParsingAction

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(NonParsingAction):
    """Prints the script for a shell. That of jsonargparse has each option of each known class, and a gigabyte."""

    def __init__(self, option_strings: list[str], help: str, dest: str = SUPPRESS) -> None:
        super().__init__(option_strings, SUPPRESS, default=SUPPRESS, choices=SHELLS, help=help)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Print it, and end the program."""
        import shtab  # not above: every start of the program would read it

        for each in (parser, *parser._subcommands_action._name_parser_map.values()):
            for action in each._actions:
                complete_value(action, shtab.FILE)
        print(shtab.complete(parser, values))
        parser.exit()


def complete_value(option: Action, file: Any) -> None:
    """Say what the value of an option may be, where it is one of a few words or a `file`, which shtab completes."""
    wanted = getattr(option, "_typehint", None)
    words = [
        str(word) for each in (wanted, *get_args(wanted)) if get_origin(each) is Literal for word in get_args(each)
    ]
    if isinstance(option, ActionConfigFile) or option.dest in ("run", "input"):
        option.complete = file  # type: ignore[attr-defined]
    elif wanted is bool:
        option.choices = ["true", "false"]
    elif words:
        option.choices = words
