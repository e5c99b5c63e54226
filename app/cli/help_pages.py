"""Writes the first pages of help, from the parsers and the commands: `python -m app.cli.help_pages`."""

from __future__ import annotations

import re
from argparse import _HelpAction
from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

from jsonargparse import capture_parser
from jsonargparse._actions import _ActionConfigLoad, _ActionHelpClassPath, _ActionPrintConfig

from app.cli.application import PolyheadCLI
from app.cli.command import Command
from app.cli.commands import commands
from app.help import MAIN, file_of

WIDTH = 100
CUT = re.compile(r";\s|(?<!e\.g)\.\s|\.$")  # what follows the first clause is for `--help_all`
WITHOUT_VALUE = (_HelpAction, _ActionConfigLoad, _ActionHelpClassPath, _ActionPrintConfig)
OF_LIGHTNING = {  # whose words are longer than a line, or say nothing to a newcomer
    "seed_everything": "The seed of all that is random; the same one gives the same run",
    "trainer.max_epochs": "How often training sees the data",
    "trainer.accelerator": "What computes: auto, cpu, gpu, mps",
    "trainer.devices": "How many of them, one process each",
    "trainer.strategy": "How several work together, such as ddp",
    "trainer.precision": "Precision of the computation, such as bf16-mixed or 64-true",
    "trainer.callbacks": "Lightning's, or your own: one, or a list",
    "trainer.fast_dev_run": "Try everything on so many batches, and save nothing",
}
QUICKSTART = "fit --config configs/quickstart.yaml"


def pages() -> dict[str, str]:
    """The text of each page, by its name."""
    parsers = capture_parser(lambda: PolyheadCLI([]))._subcommands_action._name_parser_map  # type: ignore[union-attr]
    trained, known = _options(parsers["fit"]), commands()
    texts = {name: _page(name, each, _options(parsers[name]), trained) for name, each in known.items()}
    return {MAIN: _main_page(known), **texts}


def _options(parser: Any) -> dict[str, Any]:
    """Key → option that takes a value."""
    return {each.dest: each for each in parser._actions if each.option_strings and not isinstance(each, WITHOUT_VALUE)}


def _main_page(known: Mapping[str, Command]) -> str:
    """What there is to do, and how to begin."""
    return _joined(
        "usage: python train.py COMMAND [--config FILE ...] [--KEY VALUE ...]",
        "",
        "Train one network on several tasks, from YAML.",
        "",
        f"  python train.py {QUICKSTART}",
        f"  python train.py {QUICKSTART} --trainer.max_epochs 2 --name short",
        "  python train.py predict --run runs/quickstart",
        "",
        "Commands",
        *_table({name: each.help for name, each in known.items()}),
        "",
        "What a command takes: python train.py COMMAND --help, and all of it: --help_all",
        'Completion at Tab, in bash or zsh: eval "$(python train.py --print_completion bash)"',
        "Where to read on: README.md, docs/ for each subject, configs/ for recipes to start from",
    )


def _page(name: str, command: Command, options: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """What a command takes that most need.

    Args:
        name: The command's.
        command: It.
        options: Key → its option.
        trained: The same of the command that trains, whose options the others share.
    """
    own = [key for key in options if key != "config" and (not command.parts or key not in trained)]
    groups: dict[str, dict[str, str]] = {}
    for key in dict.fromkeys([*(key for key in command.shows if "." not in key), *own, *command.shows]):
        title = key.split(".")[0].capitalize() if "." in key else "Run"
        groups.setdefault(title, {})[f"--{key}"] = _words(options[key])
    width = max(len(option) for rows in groups.values() for option in rows)
    return _joined(
        f"usage: python train.py {name} {'[--config FILE ...] ' if command.parts else ''}[--KEY VALUE ...]",
        "",
        command.help,
        "",
        *(f"  python train.py {each}" for each in command.examples),
        "",
        *(line for title, rows in groups.items() for line in (title, *_table(rows, width))),
        "",
        *_more(name, command),
    )


def _more(name: str, command: Command) -> list[str]:
    """Where the rest is."""
    lines = [f"Every option, and what it may be: python train.py {name} --help_all"]
    if command.trains:
        lines.append(f"The options of a class: python train.py {name} --model.backbone.help TimmBackbone")
    elif command.parts:
        lines.append("What a file may say, each key of which is an option too: python train.py fit --help")
    return lines


def _words(option: Any) -> str:
    """The first clause of an option's help, its choices and its default."""
    text = OF_LIGHTNING.get(option.dest) or CUT.split(option.help)[0]
    kind = None if option.dest in OF_LIGHTNING else getattr(option, "_typehint", None)
    choices = [value for each in (kind, *get_args(kind)) if get_origin(each) is Literal for value in get_args(each)]
    told = all(str(each) in text for each in choices)
    default = _text(option.default)
    return " ".join(filter(None, (text, "" if told else f"({', '.join(choices)})", default and f"[{default}]")))


def _text(default: Any) -> str:
    """A default, of which a class has its name alone, and what is empty nothing."""
    if isinstance(default, dict):
        return str(default.get("class_path", "")).split(".")[-1]
    return "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _table(rows: Mapping[str, str], width: int = 0) -> Iterable[str]:
    """Two columns, the second of which goes on below itself."""
    width = max([width, *map(len, rows)])
    for name, text in rows.items():
        first, *more = wrap(text, WIDTH - width - 4, break_on_hyphens=False) or [""]
        yield f"  {name:{width}}  {first}"
        yield from (f"{'':{width + 4}}{line}" for line in more)


def _joined(*lines: str) -> str:
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for page, text in pages().items():
        file_of(page).write_text(text, encoding="utf-8")
