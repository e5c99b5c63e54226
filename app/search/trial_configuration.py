"""The configuration that a search starts from, and those that come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from jsonargparse import Namespace

from app.runs import whole_file
from app.search.space import Space, extremes, text
from models.errors import ConfigurationError, near_it

CURVE = ("monitor", "monitor_mode")
OWN = (
    "name", *CURVE, "ckpt_path", "data.folds", "data.seed", "trainer.fast_dev_run", "trainer.limit_test_batches"
)  # fmt: skip
ANYWHERE = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.num_workers")


class ConfigurationParser(Protocol):
    """What reads and writes configurations of `fit`."""

    def configuration(self, arguments: list[str]) -> Namespace:
        """What arguments of a command line configure; a ValueError says on one line which key refuses its value."""

    def dump(self, *arguments: Any, **options: Any) -> str:
        """A configuration as text."""


class TrialConfiguration:
    """A configuration of `fit`, read by the parser of `fit`, in which values can be changed as on the command line.

    Args:
        fit: That parser.
        options: Of the search.
    """

    def __init__(self, fit: ConfigurationParser, options: Namespace) -> None:
        config = options.clone()
        del config["search"]
        config.data.folds = config.ckpt_path = None
        self._parser = fit
        self._text = fit.dump(config, skip_unset=False, skip_validation=True, format="json")
        self._keys = [key for key, _ in _flat(json.loads(self._text))]
        chosen = fit.dump(config, skip_unset=False, skip_default=True, skip_validation=True, format="json")
        self._chosen = dict(_flat(json.loads(chosen)))

    def with_values(self, values: Mapping[str, Any]) -> Namespace:
        """The configuration with other values.

        Args:
            values: Key, as on the command line → its value.

        Raises:
            ValueError: There is no such key, or it does not take the value.
        """
        changes = [f"--{key}={text(value)}" for key, value in values.items()]
        return self._parser.configuration(["--config", self._text, *changes])

    def write(self, values: Mapping[str, Any], path: Path) -> None:
        """Write the whole configuration with other values.

        Raises:
            ValueError: A key does not take its value.
        """
        config = self.with_values(values)
        with whole_file(path) as file:
            file.write(self._parser.dump(config, skip_unset=False).encode())

    def check(self, space: Space) -> None:
        """Refuse keys that there are not, and values that a key does not take.

        Raises:
            ValueError: The first of them.
        """
        for key, dimension in space.items():
            if any(key == own or key.startswith(f"{own}.") for own in OWN):
                raise ConfigurationError("search.space", f"must leave {key} to the search", repr(key))
            for value in extremes(dimension):
                self._check(key, value)

    def _check(self, key: str, value: Any) -> None:
        known = key in self._keys
        try:
            if not known and key.split(".")[0] not in self._keys:
                raise ConfigurationError(key)  # such as --help, which is no part of a configuration
            self.with_values({key: value})
        except ConfigurationError as error:
            if known:
                raise ConfigurationError(
                    f"search.space.{key}", f"must take the value {text(value)}, but: {error}"
                ) from error
            raise ConfigurationError(
                "search.space", "must name keys of the configuration", f"{key!r}{near_it(key, self._keys)}"
            ) from error

    def identity(self) -> dict[str, str]:
        """Key → value of what was chosen and decides about a trial's figure, unlike the machine that it is run on."""
        left_out = {*OWN, *ANYWHERE} - {*CURVE}
        return {key: text(value) for key, value in self._chosen.items() if key not in left_out}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key → value of nested dicts, an empty dict for what holds more."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield before + name, {}
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
