"""A trained network, ready to be used from Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from torch import Tensor

from app.configuration import network_of, sources_of, transforms_of
from app.network.network import Network
from app.runs.checkpoints import CONFIGURATION, check_weights, checkpoint_of_run, contract_of, read_checkpoint
from datamodules.batch import Inputs, map_inputs
from datamodules.contract import Contract, under
from datamodules.new_rows import split_of
from datamodules.reading.known import check_shape
from datamodules.reading.reader import Reader
from datamodules.sources import Split, SplitName
from models.errors import ConfigurationError

NETWORK = "network."  # how the names of its weights in a checkpoint begin


def load_run(path: str | Path, device: torch.device | str = "cpu") -> Run:
    """A trained network, from its checkpoint alone: neither the data nor the configuration's file is read.

    The configuration in a checkpoint is code, as in training: modules that it names are imported.

    Args:
        path: A run's folder, `runs/<name>/version_<k>`, of which the best checkpoint is taken, or the last where
            nothing was validated; or `runs/<name>`, of which the newest run is; or a checkpoint.
        device: Where the network goes.

    Raises:
        ValueError: There is no such run, or its checkpoint is not whole, older than this version, or not made by
            `train.py`.
    """
    checkpoint = checkpoint_of_run(Path(path).expanduser())
    content = read_checkpoint(checkpoint, "run")
    if CONFIGURATION not in content:
        rule = "must be of a run of train.py, which keeps its configuration"
        raise ConfigurationError("run", rule, f"none in {checkpoint}")
    if str(Path.cwd()) not in sys.path:  # where a user's own classes are, as in training
        sys.path.append(str(Path.cwd()))
    configuration, contract = yaml.safe_load(content[CONFIGURATION]), contract_of(content, checkpoint, "run")
    network = network_of(configuration, contract)
    weights = {name: x for name, x in content["state_dict"].items() if name.startswith(NETWORK)}
    expected = {f"{NETWORK}{name}": x for name, x in network.state_dict().items()}
    check_weights(weights, expected, (), checkpoint)
    network.load_state_dict({name.removeprefix(NETWORK): x for name, x in weights.items()})
    return Run(checkpoint, configuration, contract, network.eval().requires_grad_(False)).to(device)


@dataclass
class Run:
    """A trained network, and what it takes and gives.

    Attributes:
        checkpoint: The file that it was read from.
        configuration: Of the run, as in its `config.yaml`.
        contract: The targets with their classes, units and statistics, and what the inputs must be.
        network: A plain module: called with inputs and, by task, the rows that are asked of it, it gives the outputs.
    """

    checkpoint: Path
    configuration: dict[str, Any]
    contract: Contract
    network: Network

    def to(self, device: torch.device | str) -> Run:
        """This run, its network on another device.

        Raises:
            ValueError: There is no such device.
        """
        try:
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:  # as torch raises for one that it does not know or have
            raise ConfigurationError("device", "must be one of this machine", repr(str(device))) from error
        return self

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def predict(self, rows: Any, probabilities: bool = False, batch_size: int = 256) -> pl.DataFrame:
        """Predictions in the user's own labels and units, a line a row, in order.

        Args:
            rows: A path or several, of a table, a folder of images, images or an array; a Polars or pandas frame; a
                PIL image or several; an array or tensor [N, ...], or one a modality. Labels are not needed.
            probabilities: Give the probability of every class.
            batch_size: Rows at once.

        Returns:
            The columns of `train.py predict`. A map is an array of its own.

        Raises:
            ValueError: The rows are not what the network takes: a column, a value, a size.
        """
        frames = []
        for inputs in self._batches(rows, batch_size):
            everything = torch.arange(_length(inputs), device=self.device)
            outputs = self.network(inputs, dict.fromkeys(self.network.tasks, everything))
            columns = self.network.decoded(outputs, probabilities)
            frames.append(pl.DataFrame([_column(name, values) for name, values in columns.items()]))
        return pl.concat(frames)

    def features(self, rows: Any, task: str | None = None, batch_size: int = 256) -> Tensor:
        """Embeddings [N, C]: what a task's head reads of the last stage, averaged over positions.

        Args:
            rows: As of `predict`.
            task: Whose; None for those of the first task, which are everybody's where the trunk is shared.
            batch_size: Rows at once.

        Raises:
            ValueError: There is no such task, or the rows are not what the network takes.
        """
        name = task or next(iter(self.network.tasks))
        if name not in self.network.tasks:
            raise ConfigurationError("task", f"must be one of {list(self.network.tasks)}", repr(name))
        found = []
        for inputs in self._batches(rows, batch_size):
            everything = torch.arange(_length(inputs), device=self.device)
            last = self.network.sharing(inputs, {name: everything})[name][-1]
            found.append((last.flatten(2).mean(dim=2) if last.ndim > 2 else last).cpu())
        return torch.cat(found)

    def rows(self, given: Any) -> Split:
        """What `predict` takes, as rows.

        Raises:
            ValueError: They are not what the network takes.
        """
        return split_of(given, self.contract)

    def own_rows(self, name: SplitName) -> Split:
        """The rows of a split of the run's own data, of its first source.

        Raises:
            ValueError: Its files are not there.
        """
        with under(self.contract):
            return next(iter(sources_of(self.configuration).values())).split(name)

    def _batches(self, given: Any, size: int) -> Iterator[Inputs]:
        split = self.rows(given)
        for start in range(0, len(split), size):
            inputs = self.read(split, torch.arange(start, min(start + size, len(split))))
            yield map_inputs(lambda x: x.to(self.device), inputs)

    def read(self, split: Split, rows: Tensor) -> Inputs:
        """The inputs [B, ...] of some rows [B], transformed.

        Raises:
            ValueError: They are of another shape than in training.
        """
        inputs = self._reader(split, rows, torch.zeros_like(rows)).inputs
        assert inputs is not None
        check_shape("input", inputs, self.contract)
        return inputs

    @cached_property
    def _reader(self) -> Reader:
        transforms, name = transforms_of(self.configuration, self.contract)
        return Reader(transforms.of("test", name) if transforms else None)


def _length(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


def _column(name: str, values: list[Any]) -> pl.Series:
    return pl.Series(name, np.stack(values) if isinstance(values[0], np.ndarray) else values)
