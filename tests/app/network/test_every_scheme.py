"""What holds for every sharing scheme on every backbone and layout of rows."""

from functools import partial

import pytest
import torch
from partition import assert_exact_update, assert_partition
from schemes import BACKBONES, LAYOUTS, NOT_FOR, SCHEMES, batch_of, losses_of, network_of

from app.balancing import GradientConfig
from app.training.supported import check_level
from models.errors import ConfigurationError

CASES = [
    pytest.param(s, b, layout, marks=[] if b == "mlp" or layout == "partial" else pytest.mark.slow)
    for s in SCHEMES
    for b in BACKBONES
    if b not in NOT_FOR.get(s, [])
    for layout in LAYOUTS
] + [("mtan", "residual", layout) for layout in LAYOUTS]  # several stages of maps with masks
LARGE_CASES = [
    pytest.param(s, b, "partial", marks=pytest.mark.slow)
    for s in {getattr(scheme, "func", scheme): name for name, scheme in SCHEMES.items()}.values()  # one of each class
    for b, like in {"resnet18": "resnet", "vit_tiny": "vit"}.items()
    if like not in NOT_FOR.get(s, [])
]
CASE = ("scheme", "backbone", "layout")


@pytest.mark.parametrize(CASE, [*CASES, *LARGE_CASES])
def test_shared_parameters_are_reached_by_several_losses_and_own_ones_by_theirs(
    scheme: str, backbone: str, layout: str
) -> None:
    assert_partition(network_of(scheme, backbone), batch_of(layout))


@pytest.mark.parametrize(CASE, CASES)
def test_update_is_that_of_the_whole_jacobian(scheme: str, backbone: str, layout: str) -> None:
    assert_exact_update(partial(network_of, scheme, backbone), batch_of(layout))


PAIRS = [(scheme, each) for scheme in SCHEMES for each in BACKBONES if each not in NOT_FOR.get(scheme, [])]


@pytest.mark.parametrize(("scheme", "backbone"), [pair for pair in PAIRS if pair[1] != "vit"])
def test_absent_task_is_left_as_it_is(scheme: str, backbone: str) -> None:
    network, batch = network_of(scheme, backbone), batch_of("partial", without="size")
    sum(losses_of(network, batch).values()).backward()
    assert all(parameter.grad is None for parameter in network.task_parameters("size"))
    assert all(p.grad is not None for task in ("kind", "alive") for p in network.task_parameters(task))


@pytest.mark.parametrize(("scheme", "backbone"), PAIRS)
def test_weights_are_saved_and_loaded(scheme: str, backbone: str) -> None:
    network, other, batch = network_of(scheme, backbone), network_of(scheme, backbone, seed=1), batch_of("partial")
    losses_of(network, batch)  # which moves running statistics
    other.load_state_dict(network.state_dict())
    network.eval(), other.eval()
    outputs = other(batch.inputs, batch.rows)
    for task, expected in network(batch.inputs, batch.rows).items():
        assert torch.equal(outputs[task], expected)
    names = [name for group in network.groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in network.sharing.named_parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_features_are_looked_at_where_there_are_some_that_all_tasks_read(scheme: str) -> None:
    network = network_of(scheme, "vit")
    config = GradientConfig(level="features")
    if network.sharing.passes_on_features:
        check_level(config, network)
    else:
        with pytest.raises(ConfigurationError, match=r"^model\.gradients\.level: "):
            check_level(config, network)
