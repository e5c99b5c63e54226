"""Networks of every kind of layer, and what the Jacobian of their tasks' losses gives."""

from collections.abc import Callable, Sequence

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.balancing.engine import layer_gramians, row_gramians
from app.balancing.engine.gramian_source import GramianSource
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.layer_gramians import LayerGramians
from models.backbones import LeNet

TASKS, BATCH = 3, 6
WEIGHTS = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)


class Residual(nn.Module):
    """Strides, padding, dilation, a grouped and a circular convolution, biases, in-place activations, a second use."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), bias=False)
        self.norm = norm(4)
        self.first = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.same = nn.Conv2d(4, 4, (2, 3), padding="same")
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        y = F.relu(self.first(x), inplace=True)
        y = self.same(self.circular(self.depthwise(y)))
        y += x
        return self.last(F.relu(y, inplace=True).mean((2, 3)))


class Odd(nn.Module):
    """What only looks like a plain layer."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(12, 12)
        self.tied = nn.Linear(12, 12)
        self.square = nn.Parameter(torch.randn(12, 12))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(12, 12))
        self.halved = nn.Linear(12, 12)
        self.frozen = nn.Linear(12, 12).requires_grad_(False)
        self.unused = nn.Linear(12, 12)
        self.plain = nn.Linear(12, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.tanh(self.twice(x.flatten(1)[:, :12])))
        x = torch.addmm(self.tied.bias, self.tied(x).sin(), self.tied.weight)
        x = self.normed(torch.addmm(self.frozen.bias, x, self.square))
        x = torch.addmm(self.halved.bias, self.frozen(x), self.halved.weight.T, alpha=0.5)
        return self.plain(x)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    builders: dict[str, Callable[[], nn.Module]] = {
        "residual": Residual,
        "odd": Odd,
        "group norm": lambda: Residual(lambda channels: nn.GroupNorm(2, channels)),
        "frozen statistics": Residual,
        "lenet": lambda: nn.Sequential(*LeNet((3, 16, 16), widths=(3, 4), features=5).stages),
        "small maps": lambda: nn.Sequential(
            nn.AvgPool2d(8), nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, padding=1),
            nn.Conv2d(5, 4, (2, 3), padding=1), nn.Conv2d(4, 4, 2, padding=2, dilation=3), nn.Flatten(),
        ),
        "vit": lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=0,
            init_values=None,
        ),
    }  # fmt: skip
    net = builders[name]().double()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d) and name == "frozen statistics":
            nn.init.uniform_(norm.running_mean)
            norm.eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


def losses(features: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    heads = [torch.randn(features.shape[1], dtype=torch.float64, generator=draw) for _ in rows]
    return [(features[chosen] @ head).square().mean() for head, chosen in zip(heads, rows, strict=True)]


def images() -> Tensor:
    return torch.randn(BATCH, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(net: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def results(found: GramianSource, weights: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    for parameter in found.shared:
        parameter.grad = None
    gramian = found.gramian()
    found.combine(weights)
    return gramian, [parameter.grad for parameter in found.shared]


def take(found: Jacobian | LayerGramians, each: Sequence[Tensor]) -> None:
    for task, loss in enumerate(each):
        gradients = torch.autograd.grad(loss, found.inputs, retain_graph=True, allow_unused=True)
        found.take(task, gradients)


def reference(net: nn.Module, each: Sequence[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
    jacobian = Jacobian(trained(net), len(each))
    take(jacobian, each)
    return results(jacobian, WEIGHTS[: len(each)])


def check(found: tuple[Tensor, list[Tensor | None]], expected: tuple[Tensor, list[Tensor | None]]) -> None:
    scale = expected[0].abs().max()
    assert (found[0] - expected[0]).abs().max() <= 1e-12 * scale
    assert len(found[1]) == len(expected[1])
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11 * float(scale) ** 0.5)


def always(monkeypatch: pytest.MonkeyPatch, rows: bool) -> None:
    for module, name in ((layer_gramians, "rows_pay_pass_by_pass"), (row_gramians, "rows_pay_in_one_pass")):
        monkeypatch.setattr(module, name, lambda layer, tasks: rows)


ALL = [torch.arange(BATCH)] * TASKS
SOME = [torch.tensor([0, 3, 5]), torch.arange(BATCH), torch.tensor([1])]
