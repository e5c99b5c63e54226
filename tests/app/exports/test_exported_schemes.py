"""Every sharing scheme as a graph of another program."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from schemes import NOT_FOR, SCHEMES, SHAPE, TASKS, network_of

from app.exports.exporting import Exported
from app.exports.graphs import write_onnx, write_torch
from app.exports.trunk import trunks_of, write_trunks
from models.errors import ConfigurationError

ADAPTED = [name for name in SCHEMES if "adapters" in name]
IN_PARTS = {
    "mmoe from stage 1",
    "omoe",
    "dselect-k from stage 1",
    "cgc from stage 1",
    "ple of two levels",
    "normalisation per task",
    *(name for name in SCHEMES if name.startswith(("tucker", "tensor train", "laf"))),
}
NAMES = ["input"], TASKS


@pytest.mark.parametrize(
    ("scheme", "format"),
    [
        pytest.param(scheme, format, marks=[pytest.mark.slow] if format == "onnx" else [])
        for scheme in SCHEMES
        for format in ("torch", "onnx")
    ],
)
def test_graph_of_any_number_of_rows(scheme: str, format: str, tmp_path: Path) -> None:
    backbone = next(each for each in ("mlp", "resnet") if each not in NOT_FOR.get(scheme, []))
    network = network_of(scheme, backbone).float().eval()
    module, x = Exported(network, ["input"], modal=False).eval(), torch.randn(2, *SHAPE)
    path = tmp_path / "model"
    call = write_torch(module, (x,), path, "{}") if format == "torch" else write_onnx(module, (x,), NAMES, path, "{}")
    for rows in (1, 7, 64):
        x = torch.randn(rows, *SHAPE)
        for found, expected in zip(call((x,)), module(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in ADAPTED])
def test_whole_networks_are_read_by_timm(scheme: str, tmp_path: Path) -> None:
    network = network_of(scheme, "resnet").float()
    if scheme in IN_PARTS:
        with pytest.raises(ConfigurationError, match=r"^format: timm is for whole networks, as timm has them, found "):
            trunks_of(network, tmp_path / "net.safetensors")
        return
    trunks = trunks_of(network, tmp_path / "net.safetensors")
    write_trunks(trunks)
    assert len(trunks) == len(list(tmp_path.iterdir()))
    for path in trunks:
        timm.create_model("test_resnet", num_classes=0, checkpoint_path=str(path))
        assert load_file(path)
