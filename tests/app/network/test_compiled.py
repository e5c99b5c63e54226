"""Every stage is compiled that a scheme walks."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from schemes import TARGETS, TASKS
from torch._dynamo.utils import counters

from app.network.network import Network
from models.backbones import TimmBackbone
from models.sharing import CrossStitch


@pytest.fixture
def counted() -> Iterator[None]:
    """No compilation before or after counts towards the limit."""
    torch.compiler.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=8):  # torch's own
        yield
    torch.compiler.reset()


def test_no_stage_is_left_out(counted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those are that come after torch's limit of compilations, with a warning."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    network = Network(TARGETS, (3, 32, 32), partial(TimmBackbone, name="resnet10t"), CrossStitch)
    network.compile_backbones()
    for mode in (True, False):
        network.train(mode)
        for size in (4, 3):
            rows = dict.fromkeys(TASKS, torch.arange(size))
            with torch.set_grad_enabled(mode):
                network(torch.randn(size, 3, 32, 32), rows)
    frames = counters["frames"]
    assert frames["ok"] == frames["total"] > 8
