"""Weights of one checkpoint, or one a task, in every copy of a backbone that a scheme has."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, slow_but
from schemes import BACKBONES, NOT_FOR, SCHEMES, SHAPE, TARGETS, TASKS, batch_of, network_of

from app.cli.starting import starting_contract
from app.network.network import Network
from app.runs import read_checkpoint, relabelled, stamp
from app.transfer import StartingPoint
from app.transfer.sources import InitFrom
from datamodules.contract import Contract
from datamodules.targets import Continuous
from models.backbones import TimmBackbone
from models.backbones import weights as weight_files
from models.errors import ConfigurationError
from models.sharing import CGC, PLE, IndependentNetworks, MMoE

# Ranks that fit no trunk, a gate of sum ≠ 1, and subspaces that are mixed with others of the same network.
OTHER = {"tucker from stage 1, of low rank", "tensor train", "dselect-k", "sluice"}
UP_TO = {  # stages that a scheme leaves as they are: an embedding of all of them is the last, or masks begin above
    "sluice of one subspace": -1,
    "mtan": 1,
    "mtan, rows by themselves": 1,
}


def trained(scheme: str, backbone: str, seed: int) -> Network:
    """A network with weights and running statistics of its own."""
    network = network_of(scheme, backbone, seed)
    network.sharing(batch_of("single input").inputs, batch_of("single input").rows)
    return network.eval()


def checkpoint(network: Network, path: Path) -> str:
    content = {"state_dict": {f"network.{name}": x for name, x in network.state_dict().items()}}
    stamp(content, Contract(TARGETS, SHAPE))
    torch.save(content, path)
    return str(path)


def begin(network: Network, init_from: InitFrom, **options: object) -> list[str]:
    other = partial(relabelled, targets=TARGETS)
    start = StartingPoint(init_from, False, 0, network.groups, network.fresh_sharing, read_checkpoint, other)
    network.eval()
    return start.apply(network, TASKS, seed=3)


def features(network: Network) -> dict[str, list[torch.Tensor]]:
    batch = batch_of("partial")
    with torch.no_grad():
        return {task: list(each) for task, each in network.sharing(batch.inputs, batch.rows).items()}


CASES = [
    (scheme, each) for scheme in SCHEMES for each in ("resnet", "mlp") if each not in NOT_FOR.get(scheme, [])
]  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "backbone"), [pytest.param(*c, marks=[] if c[1] == "mlp" else pytest.mark.slow) for c in CASES]
)
def test_trunk_of_all_tasks_begins_every_scheme_as_hard_sharing(scheme: str, backbone: str, tmp_path: Path) -> None:
    """Mixtures of copies that are alike are what each of them is, and conditions and adapters begin without effect."""
    hard, network = trained("hard", backbone, 7), network_of(scheme, backbone)
    random = torch.get_rng_state()
    lines = begin(network, checkpoint(hard, tmp_path / "hard.ckpt"))
    assert torch.equal(torch.get_rng_state(), random)
    expected = features(hard)
    for task, found in features(network).items() if scheme not in OTHER else ():
        for stage, feature in enumerate(expected[task][: UP_TO.get(scheme)]):  # α and s_t are drawn in single precision
            torch.testing.assert_close(found[stage], feature, rtol=0, atol=1e-6)
    assert not [line for line in lines if line.startswith("  left in the file: ") and "heads." not in line]


def single(path: Path, backbone: str = "mlp") -> tuple[dict[str, str], dict[str, Network]]:
    """A hard-shared network for each task, of which only one is meant to be good at it."""
    networks = {task: trained("hard", backbone, 10 + number) for number, task in enumerate(TASKS)}
    return {task: checkpoint(each, path / f"{task}.ckpt") for task, each in networks.items()}, networks


ONE_EACH = ["independent", "soft", "tucker", "branching, all split", "cross-stitch"]


@pytest.mark.parametrize("backbone", ["mlp", pytest.param("resnet", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", ONE_EACH)
def test_every_task_begins_with_its_own_trunk_and_head(scheme: str, backbone: str, tmp_path: Path) -> None:
    files, networks = single(tmp_path, backbone)
    network = network_of(scheme, backbone)
    if scheme == "cross-stitch":
        for unit in network.sharing.units.values():
            for number, task in enumerate(TASKS):
                unit.alpha[task].values.data.zero_()[number] = 1
    lines, found = begin(network, files), features(network)
    for task, own in networks.items():
        for stage, feature in enumerate(features(own)[task]):
            torch.testing.assert_close(found[task][stage], feature, rtol=0, atol=1e-9)
        for one, other in zip(network.heads[task].parameters(), own.heads[task].parameters(), strict=True):
            assert torch.equal(one, other)
        assert f"model.init_from.{task}: {files[task]}" in lines
    assert sum(line.startswith("  taken: heads.") for line in lines) == 3


def test_networks_of_one_run_are_as_many_trunks(tmp_path: Path) -> None:
    alone = trained("independent", "mlp", 7)
    file = checkpoint(alone, tmp_path / "alone.ckpt")
    for init_from in (file, dict.fromkeys(TASKS, file)):
        network = network_of("tucker", "mlp")
        begin(network, init_from)
        expected = features(alone)
        for task, found in features(network).items():
            torch.testing.assert_close(found, expected[task], rtol=0, atol=1e-9)


def of(scheme: Callable, **options: object) -> Network:
    torch.manual_seed(0)
    return Network(TARGETS, SHAPE, BACKBONES["mlp"], partial(scheme, **options)).double()


def test_own_experts_begin_with_their_tasks_and_shared_ones_with_that_of_all(tmp_path: Path) -> None:
    files, networks = single(tmp_path)
    hard = trained("hard", "mlp", 20)
    network = of(CGC, shared=2, own=2)
    lines = begin(network, {**files, "*": checkpoint(hard, tmp_path / "hard.ckpt")})
    state = network.sharing.state_dict()
    for name, x in hard.sharing.backbone.state_dict().items():
        assert all(torch.equal(state[f"shared.each.{i}.{name}"], x) for i in range(2))
        for task, own in networks.items():
            expected = own.sharing.backbone.state_dict()[name]
            assert all(torch.equal(state[f"own.{task}.each.{i}.{name}"], expected) for i in range(2))
    assert "  taken: backbone.stage0, 2 tensors of 24,584 numbers, to 2 copies each" in lines
    assert [line.split(",")[0] for line in lines if line.startswith("  new")] == ["  new: sharing.gates"]


def test_task_that_is_not_named_begins_with_that_of_all_or_anew(tmp_path: Path) -> None:
    files, networks = single(tmp_path)
    for others, other in ((files["size"], networks["size"]), (None, None)):
        network = of(IndependentNetworks)
        before = {name: x.clone() for name, x in network.state_dict().items()}
        begin(network, {"kind": files["kind"]} | ({"*": others} if others else {}))
        for name, x in network.sharing.networks["alive"].state_dict().items():
            theirs = other.sharing.backbone.state_dict() if other else None
            assert torch.equal(x, theirs[name] if theirs else before[f"sharing.networks.alive.{name}"])
        for name, x in network.sharing.networks["kind"].state_dict().items():
            assert torch.equal(x, networks["kind"].sharing.backbone.state_dict()[name])


def test_last_layers_of_factors_are_drawn_anew(tmp_path: Path) -> None:
    """And the others are as they were in the checkpoint."""
    hard, network = trained("hard", "mlp", 7), network_of("tucker", "mlp")
    init_from = checkpoint(hard, tmp_path / "hard.ckpt")
    start = StartingPoint(init_from, False, 1, network.groups, network.fresh_sharing, read_checkpoint, lambda *_: set())
    start.apply(network, TASKS, seed=3)
    expected, found = features(hard), features(network.eval())
    for task in TASKS:
        torch.testing.assert_close(found[task][:2], expected[task][:2], rtol=0, atol=1e-9)
        assert not torch.allclose(found[task][2], expected[task][2])
    top = {f"sharing.{name}" for name in network.groups["backbone.stage2"]}
    assert {*start.given} & {f"sharing.{name}" for name, _ in network.sharing.named_parameters()} == {
        f"sharing.{name}" for name, _ in network.sharing.named_parameters() if f"sharing.{name}" not in top
    }


def test_labels_are_those_of_a_tasks_own_checkpoint(tmp_path: Path) -> None:
    network, files = of(IndependentNetworks), {}
    for number, name in enumerate(("all", "size")):
        content = {"state_dict": {}}
        stamp(content, Contract(TARGETS | {"size": Continuous(mean=float(number), std=2.0)}, SHAPE))
        files[name] = checkpoint(network, tmp_path / f"{name}.ckpt")
        torch.save(torch.load(files[name]) | content, files[name])
    both = starting_contract({"size": files["size"], "*": files["all"]}, reset_head=False)
    assert both.targets == TARGETS | {"size": Continuous(mean=1.0, std=2.0)}
    assert starting_contract({"size": files["size"]}, reset_head=False).targets.keys() == {"size"}
    assert starting_contract(files["all"], reset_head=False).targets["size"].mean == 0
    assert not starting_contract(files["all"], reset_head=True).targets
    assert starting_contract(None, reset_head=False) is None


REFUSED = {
    "unknown task": (
        IndependentNetworks,
        {"kind": "kind", "other": "size"},
        r"^model\.init_from: must be of the tasks \['kind', 'size', 'alive'\], or '\*' for what they share, found",
    ),
    "none for shared experts": (
        CGC,
        {"kind": "kind", "size": "size", "alive": "alive"},
        r"^model\.init_from: must name a checkpoint '\*', with a trunk for sharing\.shared\.each\.0, which several "
        r"tasks share, found those of kind, size, alive$",
    ),
    "none for experts": (
        MMoE,
        {"kind": "kind"},
        r"^model\.init_from: must name a checkpoint '\*', with a trunk for sharing\.experts\.each\.0, which several",
    ),
    "several trunks for shared experts": (
        partial(PLE, levels=[0, 1]),
        "independent",
        r"^model\.init_from: must name a checkpoint '\*', with a trunk for sharing\.levels\.0\.shared\.each\.0, which",
    ),
    "another architecture": (
        IndependentNetworks,
        {"kind": "resnet"},
        r"^model\.init_from\.kind: must hold weights that fit below the heads, found none in .*resnet.ckpt: it has "
        r"sharing\.backbone\.net\..*; the network wants sharing\.networks\.kind\.layers",
    ),
    "other widths": (
        MMoE,
        "narrow",
        r"^model\.init_from: sharing\.backbone\.layers\.0\.1\.weight must be \(8, 3072\), as the configured network "
        r"has it, found \(7, 3072\) in .*narrow\.ckpt$",
    ),
    "no such file": (
        IndependentNetworks,
        {"kind": "nowhere"},
        r"^model\.init_from\.kind: must be a file, found .*nowhere\.ckpt, and no such file$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    single(tmp_path)
    checkpoint(trained("hard", "resnet", 7), tmp_path / "resnet.ckpt")
    checkpoint(trained("independent", "mlp", 7), tmp_path / "independent.ckpt")
    narrow = Network(TARGETS, SHAPE, partial(BACKBONES["mlp"], hidden=(7, 6, 5)))
    checkpoint(narrow, tmp_path / "narrow.ckpt")
    scheme, files, message = REFUSED[case]
    paths = {task: str(tmp_path / f"{file}.ckpt") for task, file in files.items()} if isinstance(files, dict) else None
    with pytest.raises(ConfigurationError, match=message):
        begin(of(scheme), paths or str(tmp_path / f"{files}.ckpt"))


COPIES = {"hard": 1, "independent": 3, "mmoe": 3, "cgc from stage 1": 9, "ple": 4, "tucker": 3, "branching": 3}


@pytest.mark.parametrize("scheme", slow_but(COPIES, "independent", "tucker"))
def test_pretrained_weights_are_read_once_for_all_copies(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = TimmBackbone(SHAPE, "test_resnet").net
    torch.save(net.state_dict(), tmp_path / "net.pth")
    reads, read = [], weight_files.read
    monkeypatch.setattr(weight_files, "read", lambda *given: reads.append(given) or read(*given))
    pretrained = partial(TimmBackbone, name="test_resnet", weights=str(tmp_path / "net.pth"))
    network = Network(TARGETS, SHAPE, pretrained, SCHEMES[scheme])
    assert len(reads) == 1
    copies, expected = network.sharing.copies(), net.state_dict()
    assert len(copies) == COPIES[scheme]
    for copy in copies:
        for name, x in copy.tensors.items():
            torch.testing.assert_close(x, expected[name.removeprefix("net.")], rtol=0, atol=1e-5)
    Network(TARGETS, SHAPE, pretrained, SCHEMES[scheme])
    assert len(reads) == 2  # another network may be of another file


def test_runs_begin_with_one_checkpoint_or_one_a_task(train_here: Callable, caplog: pytest.LogCaptureFixture) -> None:
    short = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1"]
    train_here(*short, "--name", "hard")
    hard = "runs/hard/version_0/checkpoints/last.ckpt"
    cgc = ["--model.sharing", "CGC", "--model.sharing.from_stage", "1"]
    caplog.clear()
    train_here(*short, *cgc, "--name", "cgc", "--model.init_from", hard)
    assert "  taken: backbone.stage0, 2 tensors of 80 numbers\n" in caplog.text
    assert "  taken: backbone.stage1, 2 tensors of 584 numbers, to 5 copies each" in caplog.text
    caplog.clear()
    Path("start.yaml").write_text(f"model: {{init_from: {{left: {hard}, '*': {hard}}}}}\n")
    train_here(*short, *cgc, "--name", "two", "--config", "start.yaml")
    assert f"model.init_from.left: {hard}" in caplog.text
    assert "  taken: backbone.stage1, 2 tensors of 584 numbers, to 4 copies each" in caplog.text
    train_here(*short, "--model.sharing", "SoftSharing", "--model.sharing.strength", "0", "--name", "three",
               "--model.init_from.left", hard, "--model.init_from.sum", hard)  # fmt: skip
    assert f"model.init_from.sum: {hard}" in caplog.text
    again = train_here(*short[:-1], "2", *cgc, "--name", "two", "--config", "start.yaml", "--ckpt_path", "last")
    assert again.trainer.current_epoch == 2


@pytest.mark.slow
def test_factors_of_trained_weights_are_the_same_on_all_ranks(train: Train, tmp_path: Path) -> None:
    short = ["fit", "--config", str(SMALL), "--trainer.max_epochs", "1"]
    train(*short, "--name", "alone", "--model.sharing", "IndependentNetworks")
    train(*short, "--name", "factors", "--model.sharing", "TensorFactorisation", "--model.init_from",
          "runs/alone/version_0/checkpoints/last.ckpt", "--trainer.devices", "2", "--trainer.strategy", "ddp",
          "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true",
          "--trainer.callbacks.folder", str(tmp_path))  # fmt: skip
    first, second = (torch.load(tmp_path / f"parameters-{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
