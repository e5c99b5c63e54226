"""What is summed over a group of ranks; groups of several are in test_ranks.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from app.ranks import collectives, gradients


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("bucket_bytes", [1, 100, 10**6])
def test_a_sum_over_one_rank_changes_no_gradient(monkeypatch: pytest.MonkeyPatch, bucket_bytes: int) -> None:
    monkeypatch.setattr(gradients, "BUCKET_BYTES", bucket_bytes)
    torch.manual_seed(0)
    shapes = [(3, 4), (5,), (2, 3, 3, 3), (1,), (7, 2)]
    dtypes = [torch.float32, torch.float32, torch.float64, torch.float64, torch.float32]
    parameters = [nn.Parameter(torch.randn(*shape, dtype=dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    parameters[2].grad = parameters[2].grad.to(memory_format=torch.channels_last)
    parameters[1].grad = None
    before = [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
    gradients._sum_buckets(parameters)
    for parameter, gradient in zip(parameters, before, strict=True):
        if gradient is None:
            assert parameter.grad is None  # no zeros: nothing decays what no rank reached
        else:
            assert torch.equal(parameter.grad, gradient)
            assert parameter.grad.dtype == parameter.dtype


def test_buckets_keep_the_order_and_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "BUCKET_BYTES", 40)
    parameters = [nn.Parameter(torch.zeros(size)) for size in (20, 5, 5, 1, 30, 9, 1)]
    buckets = gradients._buckets(parameters)
    assert [[len(parameter) for parameter in bucket] for bucket in buckets] == [[20], [5, 5], [1], [30], [9, 1]]


def test_a_group_of_one_is_no_group(group_of_one: None) -> None:
    """As `strategy: ddp` has on one device."""
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    gradient, x = parameter.grad, torch.ones(3)
    gradients.sum_gradients(iter([parameter]))
    collectives.sum_over_ranks(x)
    collectives.take_from_first(x)
    collectives.wait_for_all()
    assert not collectives.several()
    assert parameter.grad is gradient
    assert x.tolist() == [1.0, 1.0, 1.0]
