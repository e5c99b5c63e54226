"""Regularizers in a training: which weights they have, what they leave alone, what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, SMALL, Train, scalars
from resuming import fit, kill_and_resume
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_ranks import run

from app.network.network import Network
from app.training.after_step import AfterStep
from app.training.penalties import Penalties
from app.training.regularizers import Regularization
from datamodules.targets import Binary, Categorical, Continuous
from models.backbones import MLP
from models.errors import ConfigurationError
from models.regularizers import BlockSparse, Dirty, MeanRegularized, Regularizer, TraceNorm
from models.sharing import HardSharing, IndependentNetworks

TARGETS = {"kind": Categorical(("a", "b", "c")), "size": Continuous(), "height": Continuous(), "is": Binary(("n", "y"))}
RECIPES = ROOT / "configs" / "regularizers"


def network_of(sharing: type = HardSharing) -> Network:
    torch.manual_seed(0)
    return Network(TARGETS, (5,), lambda shape: MLP(shape, (4, 6)), sharing)


def regularization(
    network: Network, factors: dict[str, float] | None = None, **configured: Regularizer
) -> Regularization:
    return Regularization(configured, network, dict.fromkeys(network.layers, 1.0) | (factors or {}))


def test_proximal_step_is_at_the_rate_of_the_layer_and_first() -> None:
    network = network_of()
    of_a_run = regularization(network, sparse=BlockSparse(1.0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    penalties, after_step, heads = Penalties(), AfterStep(), [network.heads[task].layers[1].weight for task in TARGETS]
    of_a_run.join(penalties, after_step, lambda: optimizer)
    after_step.add("second_look", lambda: None)
    assert after_step.places() == ["proximal", "second_look"]
    after_step.follow(optimizer)
    of_a_run.begin(optimizer)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    heads[1].grad = None
    before = torch.cat(heads).detach().clone()
    optimizer.step()
    norms = before.norm(dim=0)
    expected = (1 - 0.1 / norms).clamp(min=0) * before
    expected[3] = before[3]  # of the absent task
    torch.testing.assert_close(torch.cat(heads).detach(), expected)
    assert of_a_run.learned()["sparse"]["zero_rows"] == (expected == 0).all(dim=0).sum()


def test_penalty_reaches_the_heads_that_had_a_gradient_alone() -> None:
    network = network_of()
    of_a_run = regularization(network, near=MeanRegularized(0.5, tasks=["size", "height", "is"]))
    optimizer, penalties = torch.optim.SGD(network.parameters(), lr=0.1), Penalties()
    of_a_run.join(penalties, AfterStep(), lambda: optimizer)
    size, height, alive, kind = (network.heads[t].layers[1].weight for t in ("size", "height", "is", "kind"))
    for each in (size, height, kind):
        each.grad = torch.zeros_like(each)
    penalties.add_gradients(optimizer, None)
    mean = torch.stack([size, height, alive]).mean(dim=0)
    torch.testing.assert_close(size.grad, 0.5 * 2 * (size - mean))
    assert alive.grad is None
    assert not kind.grad.any()
    assert penalties.values().keys() == {"penalty/near"}


def test_layer_group_of_every_task_is_regularised_weight_by_weight() -> None:
    network = network_of(IndependentNetworks)
    of_a_run = regularization(network, near=MeanRegularized(0.5, layer="backbone.stage1"), low=TraceNorm(0.1))
    assert [list(w.shape) for w in of_a_run.by_name["near"].weights] == [[6, 4]] * 4
    assert of_a_run.state_dict() == {}
    assert not list(of_a_run.parameters())


@pytest.mark.parametrize(
    ("regularizer", "sharing", "factors", "key", "found"),
    [
        (BlockSparse(1.0, tasks=["kind", "x"]), HardSharing, {}, "it.tasks", "x"),
        (BlockSparse(1.0, tasks=["kind"]), HardSharing, {}, "it.tasks", "kind"),
        (MeanRegularized(1.0), HardSharing, {}, "it", "[3, 6]"),
        (MeanRegularized(1.0, layer="nowhere"), HardSharing, {}, "it.layer", "nowhere"),
        (MeanRegularized(1.0, layer="backbone.stage1"), HardSharing, {}, "it.layer", "backbone.stage1"),
        (BlockSparse(1.0), HardSharing, {"heads.size": 2.0}, "it", "heads.size 2"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(
    regularizer: Regularizer, sharing: type, factors: dict[str, float], key: str, found: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        regularization(network_of(sharing), factors, it=regularizer)
    assert refused.value.key == f"model.regularizers.{key}"
    assert found in str(refused.value.found)
    assert "\n" not in str(refused.value)


def test_proximal_regularizers_refuse_what_is_frozen_and_each_other_and_other_optimizers() -> None:
    network = network_of()
    of_a_run = regularization(network, it=BlockSparse(1.0))
    with pytest.raises(ConfigurationError, match=r"regularizers\.it: needs SGD, Adam or AdamW .* found RMSprop"):
        of_a_run.begin(torch.optim.RMSprop(network.parameters()))
    with pytest.raises(ConfigurationError, match=r"regularizers\.two: .* found model\.regularizers\.one"):
        regularization(network, one=BlockSparse(1.0), two=Dirty(1.0, 2.0))
    with pytest.raises(ConfigurationError, match=r"regularizers\.sharing: must have another name"):
        regularization(network, sharing=BlockSparse(1.0))
    network.heads["size"].requires_grad_(False)
    with pytest.raises(ConfigurationError, match=r"regularizers\.it: .* found heads\.size, which is frozen"):
        of_a_run.begin(torch.optim.SGD(network.parameters(), lr=0.1))


def test_run_shows_its_regularizers(train_here: Callable, tmp_path: Path) -> None:
    both = {name: yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["model"]["regularizers"][name]
            for name in ("block_sparse", "relationship")}  # fmt: skip
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"model": {"regularizers": both}}))
    train_here("fit", "--config", str(SMALL), "--config", "both.yaml", "--trainer.max_epochs", "2")
    folder = tmp_path / "runs/small/version_0"
    curves = scalars(folder)
    assert len(curves["penalty/relationship"]) == 16
    assert len(curves["regularizer/block_sparse/zero_rows"]) == 2
    files = [EventAccumulator(str(file)).Reload() for file in folder.glob("events.out.tfevents.*")]
    assert "regularizer/relationship/task_correlation" in {tag for file in files for tag in file.Tags()["images"]}
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state["regularization.learned_by.relationship.steps"] == 16
    train_here("test", "--config", str(SMALL))  # without them


STATEFUL = {
    "dirty": "{it: {class_path: Dirty, init_args: {strength: 0.01, block_strength: 0.02}}}",
    "tensor-normal": "{it: {class_path: TensorNormal, init_args: {strength: 0.01, every: 3, tasks: [left, right]}}}",
}
MOMENTUM = ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.03", "--model.optimizer.momentum", "0.9"]


@pytest.mark.parametrize("optimizer", [MOMENTUM, []], ids=["momentum", "adam"])
@pytest.mark.parametrize("regularizer", STATEFUL)
@pytest.mark.slow
def test_killed_run_goes_on_bit_for_bit(
    train: Train, train_here: Callable, regularizer: str, optimizer: list[str]
) -> None:
    options = ["--model.regularizers", STATEFUL[regularizer], *optimizer, "--trainer.max_epochs", "3"]
    train_here(*fit("whole", *options))
    kill_and_resume(train, train_here, options, 13)


ON_RANKS = {
    "relationship": "{it: {class_path: TaskRelationship, init_args: {strength: 0.01, every: 2, tasks: [left, right]}}}",
    "block sparse": "{it: {class_path: BlockSparse, init_args: {strength: 0.01, q: inf}}}",
}


@pytest.mark.parametrize("regularizer", ON_RANKS)
def test_ranks_and_micro_batches_equal_one_large_batch(
    train: Train, train_here: Callable, tmp_path: Path, regularizer: str
) -> None:
    options = ["--model.regularizers", ON_RANKS[regularizer], "--model.balancer", "UPGrad"]
    (whole,) = run(train, train_here, tmp_path / "whole", 1, 24, 1, *options)
    (without,) = run(train, train_here, tmp_path / "without", 1, 24, 1, "--model.balancer", "UPGrad")
    assert (whole[-1] - without[-1]).abs().max() > 1e-3
    first, second = run(train, train_here, tmp_path / "two", 2, 4, 3, *options)
    assert (first[-1] - whole[-1]).abs().max() <= 1e-9
    assert torch.equal(first, second)
