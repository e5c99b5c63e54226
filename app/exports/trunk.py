"""The trunk alone, as timm itself would save it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save

from app.network.network import Network
from app.runs import whole_file
from models.backbones import TimmBackbone
from models.errors import ConfigurationError


def trunks_of(network: Network, path: Path) -> dict[Path, Any]:
    """The file of each network of timm; of several, its place in the sharing scheme is part of the name.

    Raises:
        ValueError: There is none, or only some stages of one, or one with layers that timm does not have.
    """
    trunks = {name: each.net for name, each in network.sharing.named_modules() if isinstance(each, TimmBackbone)}
    if not trunks:
        raise ConfigurationError("format", "timm is for networks with a TimmBackbone", "none")
    for name, net in trunks.items():
        if net.state_dict().keys() != _as_timm_has_it(net):
            found = f"sharing.{name} of {type(network.sharing).__name__}, which is none"
            raise ConfigurationError("format", "timm is for whole networks, as timm has them", found)
    if len(trunks) == 1:
        return dict(zip([path], trunks.values(), strict=True))
    return {path.with_stem(f"{path.stem}-{name}"): trunks[full] for full, name in _places(list(trunks)).items()}


def _as_timm_has_it(net: Any) -> set[str]:
    """The names of the weights of a network of this architecture."""
    with torch.device("meta"):
        return {*timm.create_model(net.pretrained_cfg["architecture"], num_classes=0).state_dict()}


def _places(names: list[str]) -> dict[str, str]:
    """Name of each module of several → what tells it from the others: without where all of them begin alike."""
    parts = [name.split(".") for name in names]
    alike = next(place for place in range(len(parts[0])) if len({each[place] for each in parts}) > 1)
    return {name: ".".join(each[alike:]) for name, each in zip(names, parts, strict=True)}


def write_trunks(trunks: Mapping[Path, Any]) -> None:
    """Write the weights of networks of timm under timm's own names.

    `timm.create_model(name, num_classes=0, checkpoint_path=…)` reads them.
    """
    for path, net in trunks.items():
        architecture = net.pretrained_cfg["architecture"]
        about = {"architecture": architecture, "timm": timm.__version__}
        with whole_file(path) as file:
            file.write(save({key: x.cpu().contiguous() for key, x in net.state_dict().items()}, about))
        _check(path, net)


def _check(path: Path, net: Any) -> None:
    """What was written, read back, is the network's."""
    state = net.state_dict()
    read = load_file(path)
    assert read.keys() == state.keys()
    assert all(read[name].equal(x.cpu()) for name, x in state.items())
