"""What a new training takes from a checkpoint, and what it draws anew."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from torch import Tensor, nn

from app.balancing import UncertaintyWeighting
from app.runs import stamp
from app.training.module import MultiTaskModule
from datamodules.contract import Contract
from datamodules.targets import Categorical, Continuous, Target
from models.backbones import Backbone, LeNet, TimmBackbone

SHAPE = (1, 12, 12)
resnet = partial(TimmBackbone, name="resnet10t")
TASKS: dict[str, Target] = {"left": Categorical(tuple("0123456789")), "sum": Continuous(mean=1.0, std=2.0)}


def build(seed: int, backbone: Callable[..., Backbone] = resnet, targets: dict[str, Target] = TASKS, **options):
    torch.manual_seed(seed)
    return MultiTaskModule(targets, SHAPE, backbone, **options)


def spread(network: nn.Module) -> None:
    """Give every tensor values that no initialisation gives."""
    for i, x in enumerate(network.state_dict().values()):
        x.copy_(torch.arange(x.numel()).view_as(x) + 7 + i)


def start(network: MultiTaskModule, seed: int = 3) -> list[str]:
    return network.start.apply(network.network, list(network.network.tasks), seed)


def values(network: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in network.state_dict().items()}


@pytest.fixture
def file(tmp_path: Path) -> str:
    trained = build(0, balancer=UncertaintyWeighting())
    spread(trained)
    content = {"state_dict": trained.state_dict()}
    stamp(content, Contract(TASKS, SHAPE))
    torch.save(content, tmp_path / "trained.ckpt")
    return str(tmp_path / "trained.ckpt")


def test_what_fits_is_taken_and_all_is_told(file: str) -> None:
    targets = {"left": Categorical(("one", "two")), "sum": Continuous(mean=5.0, std=6.0), "new": Continuous()}
    network = build(1, targets=targets, balancer=UncertaintyWeighting(), init_from=file)
    before, trained = values(network), torch.load(file)["state_dict"]
    lines = start(network)
    taken = [
        name for name in before if name.startswith(("network.sharing.", "network.heads.sum.", "network.tasks.sum."))
    ]
    assert any("running_var" in name for name in taken)
    assert any("tasks.sum.mean" in name for name in taken)  # the head speaks in these units
    for name, x in network.state_dict().items():
        expected = trained[name] if name in taken else before[name]
        assert torch.equal(x.nan_to_num(), expected.nan_to_num()), name
    parameters = {name for name, _ in network.named_parameters()}
    assert {f"network.{name}" for name in network.start.given} == parameters & set(taken)
    assert lines[0] == f"model.init_from: {file}"
    assert "  taken: heads.sum, 4 tensors of 515 numbers" in lines
    assert "  heads.left: of other classes or another unit in the file" in lines
    assert "  left in the file: heads.left, 2 tensors of 5,130 numbers" in lines
    assert [line for line in lines if line.startswith("  new")] == [
        "  new: heads.left, 2 tensors of 1,026 numbers",
        "  new: heads.new, 4 tensors of 515 numbers",
    ]
    tensors = sum(int(line.split(", ")[1].split()[0]) for line in lines if line.startswith("  taken"))
    assert tensors == len(taken)


def test_new_heads_on_the_old_trunk(file: str) -> None:
    network = build(1, init_from=file, reset_head=True)
    before, trained = values(network), torch.load(file)["state_dict"]
    start(network)
    for name, x in network.state_dict().items():
        if not name.startswith("balancing"):
            assert torch.equal(x, trained[name] if name.startswith("network.sharing.") else before[name]), name
    assert all(name.startswith("sharing.") for name in network.start.given)


@pytest.fixture
def pretrained(tmp_path: Path) -> Callable[..., Backbone]:
    net = resnet(SHAPE).net
    spread(net)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    return partial(resnet, weights=str(tmp_path / "net.pth"))


@pytest.mark.parametrize("of", ["weights of timm", "checkpoint"])
def test_last_layers_are_those_of_a_network_without_pretraining(of: str, pretrained: Callable, file: str) -> None:
    """Parameters and running statistics; the same whatever has been drawn before, and what is drawn after it too."""
    options = {"backbone": pretrained} if of == "weights of timm" else {"init_from": file}
    network, other = build(1, reset_layers=2, **options), build(2, reset_layers=2, **options)
    before = values(network.network.sharing) if of == "weights of timm" else {
        name.removeprefix("network.sharing."): x for name, x in torch.load(file)["state_dict"].items()
    }  # fmt: skip
    random = torch.get_rng_state()
    start(network), start(other)
    assert torch.equal(torch.get_rng_state(), random)
    torch.manual_seed(3)
    fresh = {f"backbone.{name}": x for name, x in resnet(SHAPE).state_dict().items()}
    groups = list(network.network.sharing.layer_groups())
    last = ("backbone.net.layer3.", "backbone.net.layer4.")
    assert [group.split(".")[1] for group in groups[-2:]] == ["layer3", "layer4"]
    for name, x in network.network.sharing.state_dict().items():
        assert torch.equal(x, (fresh if name.startswith(last) else before)[name]), name
        assert torch.equal(x, other.network.sharing.state_dict()[name]), name
    assert not any(name.startswith(tuple(f"sharing.{each}" for each in last)) for name in network.start.given)


REFUSED = {
    "another backbone": (
        {"backbone": partial(LeNet, widths=[8], kernel_size=3, padding=1, features=16)},
        r"^model\.init_from: must hold weights that fit below the heads, found none in .*trained.ckpt: it has "
        r"sharing\.backbone\.net\.conv1.*; the network wants sharing\.backbone\.",
    ),
    "another shape": (
        {"backbone": partial(TimmBackbone, name="resnet14t")},
        r"^model\.init_from: sharing\.backbone\.net\.layer1\.0\.conv1\.weight must be \(64, 64, 1, 1\), .*, "
        r"found \(64, 64, 3, 3\) in",
    ),
    "no such file": ({"init_from": "nowhere.ckpt"}, r"^model\.init_from: must be a file, found nowhere\.ckpt"),
    "no checkpoint": ({"init_from": str(SMALL)}, r"^model\.init_from: .*small\.yaml"),
    "too many layers": ({"reset_layers": 6}, r"^model\.reset_layers: must be from 0 to 5, .*layer4.*, found 6$"),
    "a negative number": ({"reset_layers": -1}, r"^model\.reset_layers: must be from 0 to 5, .*, found -1$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(file: str, case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        start(build(1, **{"init_from": file, **options}))


def fit(name: str, *options: str) -> list[str]:
    constant = ["--model.lr_scheduler", "null"]  # not of the run's length
    return ["fit", "--config", str(SMALL), "--name", name, "--trainer.logger", "false", *constant, *options]


def test_starts_once_and_needs_no_file_later(train_here: Callable, caplog: pytest.LogCaptureFixture) -> None:
    train_here(*fit("before", "--trainer.max_epochs", "1"))
    file = Path("runs/before/version_0/checkpoints/last.ckpt")
    options = ["--model.init_from", str(file), "--model.reset_layers", "1"]
    train_here(*fit("whole", *options, "--trainer.max_epochs", "2"))
    assert "taken: backbone.stage0" in caplog.text
    train_here(*fit("two", *options, "--trainer.max_epochs", "1"))
    file.unlink()
    caplog.clear()
    resumed = train_here(*fit("two", *options, "--trainer.max_epochs", "2", "--ckpt_path", "last"))
    train_here("test", *fit("two", *options)[1:])
    assert "taken" not in caplog.text
    whole = torch.load("runs/whole/version_0/checkpoints/last.ckpt")["state_dict"]
    for name, x in torch.load("runs/two/version_0/checkpoints/last.ckpt")["state_dict"].items():
        assert torch.equal(x.nan_to_num(), whole[name].nan_to_num()), name
    assert resumed.trainer.global_step == 16


def test_nothing_to_start_from_is_one_line(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_here(*fit("none", "--model.init_from", "nowhere.ckpt"))
    assert (
        capfd.readouterr().err.splitlines()[-1].startswith("error: model.init_from: must be a file, found nowhere.ckpt")
    )


@pytest.mark.parametrize("classes", [("one", "two"), tuple("9876543210")], ids=["others", "another order"])
def test_a_head_of_other_classes_is_not_taken(file: str, classes: tuple[str, ...]) -> None:
    network = build(1, targets={**TASKS, "left": Categorical(classes)}, init_from=file)
    before = values(network)
    assert "  heads.left: of other classes or another unit in the file" in start(network)
    for name, x in network.state_dict().items():
        if name.startswith("network.heads.left"):
            assert torch.equal(x, before[name]), name
        elif name.startswith("network.heads.sum"):
            assert not torch.equal(x, before[name]), name


def test_tree_is_the_configurations(train_here: Callable) -> None:
    """And not that of the checkpoint whose weights are taken."""
    tree = "{class_path: Branching, init_args: {tree: {1: [[left], [right, sum, parity]]}}}"
    short = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--model.sharing"]
    train_here(*short, tree, "--name", "first")
    start = ["--model.init_from", "runs/first/version_0/checkpoints/last.ckpt"]
    cli = train_here(*short, "Branching", "--name", "second", *start)
    sharing = cli.model.network.sharing
    assert all(len(sharing.groups(stage)) == 1 for stage in sharing.stages)
    assert sum(p.numel() for p in sharing.shared_parameters()) * 4 == sum(p.numel() for p in sharing.parameters())
