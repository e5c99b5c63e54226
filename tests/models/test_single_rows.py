"""A task with one row in a batch: a batch normalisation over a single value a channel has no statistics of its own."""

import pytest
import torch
from torch import Tensor, nn

from models.backbones import MLP
from models.sharing import HardSharing, IndependentNetworks, Sharing

ROWS = {"a": torch.tensor([0, 1, 3]), "b": torch.tensor([2])}


class Normalised(MLP):
    """Two layers and a batch normalisation, of vectors or of maps of 2×2."""

    def __init__(self, side: int = 1) -> None:
        super().__init__((4,), (5, 3))
        self.side, self.norm = side, nn.BatchNorm2d(4)
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.tensor([1.0, -1.0, 2.0, 0.5]))
            self.norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0, 2.0]))
            self.norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.norm(x[:, :, None, None] + torch.arange(self.side**2.0).view(self.side, self.side))
        return super().forward(maps.mean((2, 3)))


def by_task(backbone, tasks: list[str]) -> HardSharing:
    return HardSharing(backbone, tasks, statistics="task")


def norm_of(sharing: Sharing, task: str) -> nn.BatchNorm2d:
    network = sharing.networks[task] if isinstance(sharing, IndependentNetworks) else sharing.backbone
    return network.norm


@pytest.mark.parametrize("scheme", [IndependentNetworks, by_task])
def test_a_single_row_is_normalised_by_running_statistics(scheme) -> None:
    torch.manual_seed(0)
    sharing, x = scheme(Normalised, ["a", "b"]), torch.randn(4, 4)
    twin = scheme(Normalised, ["a", "b"])
    twin.load_state_dict(sharing.state_dict())
    features = sharing(x, ROWS)
    torch.testing.assert_close(list(features["a"]), list(twin(x, {"a": ROWS["a"]})["a"]))  # as if b had no row
    expected = twin.eval()(x, {"b": ROWS["b"]})["b"]  # by task, they are the running statistics after a's rows
    torch.testing.assert_close(list(features["b"]), list(expected))


@pytest.mark.parametrize("scheme", [IndependentNetworks, by_task, HardSharing])
def test_a_single_row_moves_no_running_statistic_and_has_a_gradient(scheme) -> None:
    torch.manual_seed(1)
    sharing, x = scheme(Normalised, ["a", "b"]), torch.randn(1, 4)
    norm = norm_of(sharing, "b")
    kept = norm.running_mean.clone(), norm.running_var.clone()
    features = sharing(x, {"b": torch.tensor([0])})["b"]
    assert torch.equal(norm.running_mean, kept[0])
    assert torch.equal(norm.running_var, kept[1])
    features[0].sum().backward()
    assert norm.weight.grad.abs().sum() > 0
    sharing.eval()
    torch.testing.assert_close(list(features), list(sharing(x, {"b": torch.tensor([0])})["b"]))


@pytest.mark.parametrize("scheme", [IndependentNetworks, by_task, HardSharing])
def test_a_single_row_of_several_values_is_normalised_by_them(scheme) -> None:
    torch.manual_seed(0)
    sharing, x = scheme(lambda: Normalised(side=2), ["a", "b"]), torch.randn(1, 4)
    norm = norm_of(sharing, "b")
    kept = norm.running_mean.clone()
    sharing(x, {"b": torch.tensor([0])})
    torch.testing.assert_close(norm.running_mean, 0.9 * kept + 0.1 * (x[0] + 1.5))


def test_a_norm_without_running_statistics_says_what_it_lacks() -> None:
    def backbone() -> Normalised:
        network = Normalised()
        network.norm = nn.BatchNorm2d(4, track_running_stats=False)
        return network

    with pytest.raises(ValueError, match="more than 1 value per channel"):
        IndependentNetworks(backbone, ["b"])(torch.randn(1, 4), {"b": torch.tensor([0])})


@pytest.mark.parametrize("scheme", [IndependentNetworks, by_task])
def test_a_compiled_network_does_the_same(scheme) -> None:
    torch.manual_seed(0)
    sharing, twin, x = scheme(Normalised, ["a", "b"]), scheme(Normalised, ["a", "b"]), torch.randn(4, 4)
    twin.load_state_dict(sharing.state_dict())
    for backbone in [module for module in twin.modules() if isinstance(module, Normalised)]:
        backbone.compile(backend="eager", fullgraph=True)
    for ours, theirs in zip(sharing(x, ROWS).values(), twin(x, ROWS).values(), strict=True):
        torch.testing.assert_close(list(ours), list(theirs))
    torch.testing.assert_close(dict(sharing.named_buffers()), dict(twin.named_buffers()))
