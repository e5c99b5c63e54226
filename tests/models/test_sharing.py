"""What tasks share: rows, gradients, partitions of the parameters."""

import pytest
import torch
from torch import Tensor, nn

from models.backbones import MLP, LeNet
from models.errors import ConfigurationError
from models.sharing import HardSharing, IndependentNetworks, Sharing

TASKS = ["age", "eye-colour", "keys", "train", "type"]
ROWS = {"age": torch.tensor([0, 2]), "eye-colour": torch.arange(6), "keys": torch.tensor([5])}
schemes = pytest.mark.parametrize("scheme", [HardSharing, IndependentNetworks])


def build(scheme: type[Sharing]) -> Sharing:
    torch.manual_seed(0)
    return scheme(lambda: LeNet((1, 16, 16)), TASKS)


def images() -> Tensor:
    return torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@schemes
def test_every_task_gets_the_features_of_its_rows(scheme: type[Sharing]) -> None:
    sharing, x = build(scheme), images()
    features = sharing(x, ROWS)
    assert list(features) == list(ROWS)
    for task, rows in ROWS.items():
        backbone = sharing.backbone if scheme is HardSharing else sharing.networks[task]
        expected = backbone(x[rows])
        assert len(features[task]) == len(expected) == len(sharing.channels[task])
        for stage in range(-3, 3):
            torch.testing.assert_close(features[task][stage], expected[stage])
        for part, reference in zip(features[task][1:], expected[1:], strict=True):
            torch.testing.assert_close(part, reference)


@schemes
def test_channels(scheme: type[Sharing]) -> None:
    assert build(scheme).channels == {task: [10, 20, 50] for task in TASKS}


@schemes
@pytest.mark.parametrize("tasks", [TASKS, ["age"]])
def test_parameters_are_partitioned(scheme: type[Sharing], tasks: list[str]) -> None:
    sharing = scheme(lambda: LeNet((1, 16, 16)), tasks)
    parts = [sharing.shared_parameters(), *(sharing.task_parameters(task) for task in tasks)]
    found = [id(parameter) for part in parts for parameter in part]
    assert sorted(found) == sorted(id(parameter) for parameter in sharing.parameters())
    assert bool(sharing.shared_parameters()) == (scheme is HardSharing)


def test_hard_sharing_calls_the_trunk_once() -> None:
    sharing, calls = build(HardSharing), []
    sharing.backbone.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    sharing(images(), ROWS)
    assert calls == [6]


def test_hard_sharing_gathers_only_what_is_read() -> None:
    sharing, x = build(HardSharing), images()
    with torch.profiler.profile() as profile:
        features = sharing(x, ROWS)
        read = [features["age"][-1], features["eye-colour"][1], features["eye-colour"][2]]
    gathered = [event.count for event in profile.key_averages() if event.key == "aten::index_select"]
    assert gathered == [1]  # "eye-colour" has every row
    assert [len(feature) for feature in read] == [2, 6, 6]


def test_every_task_reaches_the_shared_parameters() -> None:
    sharing = build(HardSharing)
    features = sharing(images(), ROWS)
    for task in ROWS:
        gradients = torch.autograd.grad(features[task][-1].sum(), sharing.shared_parameters(), retain_graph=True)
        assert all(gradient.any() for gradient in gradients)


def test_independent_networks_do_not_reach_each_other() -> None:
    sharing = build(IndependentNetworks)
    sharing(images(), ROWS)["age"][-1].sum().backward()
    assert all(parameter.grad.any() for parameter in sharing.task_parameters("age"))
    assert all(p.grad is None for task in TASKS[1:] for p in sharing.task_parameters(task))


def test_independent_networks_start_apart_and_see_their_rows_alone() -> None:
    sharing, sizes = build(IndependentNetworks), []
    for network in sharing.networks.values():
        network.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    sharing(images(), ROWS)
    assert sizes == [2, 6, 1]
    first, second = (sharing.task_parameters(task)[0] for task in TASKS[:2])
    assert not torch.equal(first, second)


def test_weights_of_independent_networks_follow_the_name_of_their_task() -> None:
    sharing, twin = build(IndependentNetworks), IndependentNetworks(lambda: LeNet((1, 16, 16)), TASKS[::-1])
    twin.load_state_dict(sharing.state_dict())
    for task in TASKS:
        for ours, theirs in zip(sharing.task_parameters(task), twin.task_parameters(task), strict=True):
            assert torch.equal(ours, theirs)


@schemes
def test_vectors(scheme: type[Sharing]) -> None:
    sharing = scheme(lambda: MLP((4,)), ["a", "b"])
    features = sharing(torch.randn(3, 4), {"b": torch.tensor([1])})
    assert [tuple(f.shape) for f in features["b"]] == [(1, 256), (1, 128)]


def normalised() -> MLP:
    backbone = MLP((4,), (5, 3))
    backbone.layers.insert(1, nn.BatchNorm1d(5))
    return backbone


OWN = {"b": torch.tensor([0, 3]), "a": torch.tensor([1, 2, 3])}  # row 3 is both tasks', row 4 nobody's


def test_statistics_by_task() -> None:
    sharing = HardSharing(normalised, ["a", "b", "absent"], statistics="task")
    x = torch.randn(5, 4)
    alone = HardSharing(normalised, ["a", "b", "absent"])
    alone.load_state_dict(sharing.state_dict())
    features = sharing(x, OWN)
    assert list(features) == ["b", "a"]
    for task in ("a", "b"):  # one after the other, as for the running statistics
        expected = alone(x[OWN[task]], {task: torch.arange(len(OWN[task]))})[task]
        torch.testing.assert_close(list(features[task]), list(expected))
    torch.testing.assert_close(sharing.backbone.layers[1].running_var, alone.backbone.layers[1].running_var)
    assert {task: rows.tolist() for task, rows in sharing.rows_in_trunk(OWN).items()} == {"a": [0, 1, 2], "b": [3, 4]}


def test_statistics_by_task_are_those_of_training() -> None:
    sharing = HardSharing(normalised, ["a", "b"], statistics="task").eval()
    x = torch.randn(5, 4)
    expected = sharing.backbone(x)
    for task, features in sharing(x, OWN).items():
        torch.testing.assert_close(list(features), [feature[OWN[task]] for feature in expected])
    assert sharing.rows_in_trunk(OWN) is OWN


class Folding(MLP):
    """Normalises its rows in pairs."""

    def __init__(self) -> None:
        super().__init__((4,), (3,))
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return super().forward(self.norm(x.reshape(-1, 8)).reshape(x.shape))


@pytest.mark.parametrize("own", [4, 3])  # as many as there are left of all
def test_rows_folded_before_a_norm_are_refused_under_statistics_by_task(own: int) -> None:
    sharing = HardSharing(Folding, ["a", "b"], statistics="task")
    rule = r"^model\.sharing\.statistics: task needs .*, found 3 rows of the 6"
    with pytest.raises(ConfigurationError, match=rule):
        sharing(torch.randn(6, 4), {"a": torch.arange(own), "b": torch.arange(own, 6)})
