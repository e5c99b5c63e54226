"""How the command line reads YAML, and what it says of a mistake."""

from __future__ import annotations

import os
import re
from argparse import ArgumentError
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]
from lightning.pytorch.cli import LightningArgumentParser

from app.cli.errors import construct
from app.cli.mistakes import reworded
from app.cli.yaml_files import check_yaml
from models.errors import ConfigurationError

PART_OF_KEY = re.compile(
    r"""Parser key "([^"]+)": (?:(?:Problem with given class_path '[^']+'|"""
    """Type .* expects a function or a callable class): (?=Parser key))?"""
)
UNION = "Does not validate against any of the Union subtypes"
OTHER = "does not correspond to a subclass of"
FOUND = "Given value: "
FRAME = (
    "Subtypes:",
    "Errors:",
    "Given value type:",
    "- Expected a <class 'NoneType'>",
    f"- {UNION}",
    "- Expected a path",
)
MERGED = ("data.sources", "model.tasks")  # dicts that several --config files fill together


NO_DATA = "no data: data.sources must name a dataset or more, as in configs/quickstart.yaml; found none"
NO_NETWORK = "no network: model.backbone must name one, such as TimmBackbone or LeNet; found none"


class MergingConfigFile(ActionConfigFile):
    """A `--config` that adds its sources and tasks to those of the files before it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Parse the file into `namespace`."""
        if os.path.exists(values):  # noqa: PTH110  # a text in place of a file may be longer than a path
            try:
                check_yaml(Path(values))
            except ConfigurationError as error:
                parser.error(str(error))
        before = {key: namespace.get(key) for key in MERGED}
        super().__call__(parser, namespace, values, option_string)  # type: ignore[no-untyped-call]
        for key, earlier in before.items():
            if isinstance(earlier, dict) and isinstance(namespace.get(key), dict):
                namespace[key] = {**earlier, **namespace[key]}


class OneLineParser(LightningArgumentParser):
    """Says what is wrong in one last line, and exits with 2.

    Attributes:
        functions: Those that the configuration names where a class may be; they are called as classes are.
    """

    functions: tuple[Any, ...] = ()

    def _get_parser_instantiators(self) -> dict[tuple[Any, bool], Any]:
        return {(function, False): construct for function in self.functions}

    def validate(self, namespace: Namespace, *arguments: Any, **options: Any) -> None:
        """Refuse a configuration in which something is wrong, or nothing is said of what it cannot do without."""
        if any(action.dest == "data.sources" for action in self._actions) and not namespace.get("data.sources"):
            self.error(NO_DATA)
        super().validate(namespace, *arguments, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error on one line."""
        if not self.exit_on_error:  # a part of a parser, whose error the whole one words
            super().error(message, ex)
        key, text = key_and_text(message)
        nothing = key == "model.backbone" and "Got value: None" in text
        self.exit(2, f"error: {NO_NETWORK if nothing else reworded(key, text, self)}\n")

    def configuration(self, arguments: list[str]) -> Namespace:
        """What `arguments` configure, for code of the program.

        Raises:
            ValueError: A key does not take its value; on one line.
        """
        self.exit_on_error = self.allow_abbrev = False
        try:
            config: Namespace = self.parse_args(arguments)
        except ArgumentError as error:
            raise ConfigurationError(reworded(*key_and_text(str(error)), self)) from error
        return config


def leave_out(parser: LightningArgumentParser, part: str) -> None:
    """Let what a part of the configuration requires be missing: it is then None."""
    action: Any
    for action in parser._actions:
        if action.required and action.dest.startswith(f"{part}."):
            action.required, action._typehint = False, action._typehint | None


def key_and_text(message: str) -> tuple[str, str]:
    """The whole key that a parser finds wrong, and what is, on one line."""
    text = " ".join(_reasons([line.strip() for line in message.splitlines() if line.strip()]))
    keys = []
    while part := PART_OF_KEY.match(text):
        keys.append(part[1])
        text = text[part.end() :]
    return ".".join(keys), text


def _reasons(lines: list[str]) -> list[str]:
    """What is wrong, and the innermost value, without the alternatives of a union that the value is not of at all."""
    found = [line.removeprefix(FOUND) for line in lines if line.startswith(FOUND) and "Namespace(" not in line]
    first, *more = [line.removesuffix(UNION).strip() for line in lines if not line.startswith((FOUND, *FRAME))]
    specific = [line for line in more if not line.startswith("- Expected a <class") and OTHER not in line]
    reasons = [first, *dict.fromkeys(line.removeprefix("- ") for line in specific or more)]
    return [*(reason for reason in reasons if reason), *(f"(found {value})" for value in found[:1])]
