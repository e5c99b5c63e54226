"""The trunk alone, as timm itself would save it."""

from __future__ import annotations

from pathlib import Path

import timm
from safetensors.torch import load_file, save

from app.network.network import Network
from app.runs import whole_file
from models.backbones import TimmBackbone
from models.errors import ConfigurationError


def write_trunks(network: Network, path: Path) -> list[Path]:
    """Write the weights of each network of timm under timm's own names; of several, its place is part of the name.

    `timm.create_model(name, num_classes=0, checkpoint_path=…)` reads them.

    Raises:
        ValueError: The network has none.
    """
    trunks = {name: each.net for name, each in network.sharing.named_modules() if isinstance(each, TimmBackbone)}
    if not trunks:
        raise ConfigurationError("format", "timm is for networks with a TimmBackbone", "none")
    written = []
    for name, net in trunks.items():
        of_one = path if len(trunks) == 1 else path.with_stem(f"{path.stem}-{name.rpartition('.')[2]}")
        architecture = net.pretrained_cfg["architecture"]
        about = {"architecture": architecture, "timm": timm.__version__}
        with whole_file(of_one) as file:
            file.write(save({key: x.cpu().contiguous() for key, x in net.state_dict().items()}, about))
        written.append(of_one)
        _check(of_one, net)
    return written


def _check(path: Path, net: object) -> None:
    """What was written, read back, is the network's."""
    state = net.state_dict()  # type: ignore[attr-defined]  # a module of timm
    read = load_file(path)
    assert read.keys() == state.keys()
    assert all(read[name].equal(x.cpu()) for name, x in state.items())
