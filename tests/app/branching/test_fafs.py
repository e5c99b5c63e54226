"""The rule of fully-adaptive feature sharing, by hand and on planted groups."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from app.branching.fafs import affinity_of_branches, affinity_of_tasks, grouped, parted, separation
from app.branching.grouping import spectral_groups
from app.callbacks.fafs import check_rows
from app.network.network import Network
from datamodules.targets import Binary
from models.backbones import MLP
from models.errors import ConfigurationError
from models.sharing import Branching

A = np.array([[1.0, 0.8, 0.4, 0.3], [0.8, 1.0, 0.5, 0.2], [0.4, 0.5, 1.0, 0.9], [0.3, 0.2, 0.9, 1.0]])


def test_affinity_by_hand() -> None:
    """Means .5, .4 and .2; e = 1 1 0 0, 0 1 0 and, of the last two rows alone, 0 1."""
    nan = np.nan
    errors = np.array([[0.9, 0.1, nan], [0.7, 0.9, nan], [0.1, 0.2, 0.1], [0.3, nan, 0.3]])
    assert_allclose(affinity_of_tasks(errors), [[1, 2 / 3, 1 / 2], [2 / 3, 1, 1], [1 / 2, 1, 1]])
    never = np.array([[0.5, nan], [nan, 0.5]])
    assert_allclose(affinity_of_tasks(never), np.eye(2))


def test_affinity_of_branches_by_hand() -> None:
    """½ ((min(.4, .3) + min(.5, .2)) / 2 + (min(.4, .5) + min(.3, .2)) / 2)."""
    expected = ((0.3 + 0.2) / 2 + (0.4 + 0.2) / 2) / 2
    assert_allclose(affinity_of_branches(A, [[0, 1], [2, 3]]), [[1, expected], [expected, 1]])
    assert_allclose(affinity_of_branches(A, [[0], [1], [2], [3]]), A)


def test_separation_and_cost_by_hand() -> None:
    assert separation(A, [[0, 1, 2, 3]]) == pytest.approx(1 - (0.3 + 0.2 + 0.4 + 0.2) / 4)
    assert separation(A, [[0, 1], [2, 3]]) == pytest.approx((0.2 + 0.1) / 2)
    assert separation(A, [[0], [1], [2], [3]]) == 0
    gain = separation(A, [[0, 1, 2, 3]]) - separation(A, [[0, 1], [2, 3]])
    assert grouped(A, gain - 1e-6) == [[0, 1], [2, 3]]
    assert grouped(A, gain + 1e-6) == [[0, 1, 2, 3]]
    assert grouped(A, 0.0) == [[0], [1], [2], [3]]
    assert parted(A, [[0, 1], [2], [3]], cost=0.3) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_spectral_groups_of_a_permuted_block_matrix(seed: int) -> None:
    draw = np.random.default_rng(seed)
    of = draw.permutation([0, 0, 0, 1, 1, 1, 1, 2, 2])
    noise = draw.uniform(0, 0.1, (9, 9))
    groups = spectral_groups(np.where(of[:, None] == of, 0.8, 0.3) + (noise + noise.T) / 2, 3)
    assert sorted(groups) == sorted(np.flatnonzero(of == each).tolist() for each in range(3))


def planted(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs [1000, 16] and the labels of six tasks: a group's are functions of the same half of the inputs."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(1000, 16, generator=draw)
    labels = {}
    for number in range(6):
        half = x[:, :8] if number % 2 else x[:, 8:]
        direction = torch.ones(8) + 0.15 * torch.randn(8, generator=draw)
        labels[f"t{number}"] = (half @ direction > 0).double()
    return x, labels


@pytest.mark.parametrize("seed", range(5))
def test_planted_tree_of_two_groups_is_found(seed: int) -> None:
    """Of errors of a trained network on rows that it has not seen: those near a group's boundary are hard for all."""
    x, labels = planted(seed)
    torch.manual_seed(seed)
    network = Network(dict.fromkeys(labels, Binary(("no", "yes"))), (16,), partial(MLP, hidden=(32, 16)), Branching)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    train, val = torch.arange(500), torch.arange(500, 1000)
    for _ in range(40):
        outputs = network(x[train], dict.fromkeys(labels, train))
        loss = sum(network.tasks[task].losses(outputs[task], labels[task][train]).mean() for task in labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    outputs = network(x[val], dict.fromkeys(labels, torch.arange(500)))
    errors = [network.tasks[task].errors(outputs[task], labels[task][val]).detach() for task in labels]
    affinity = affinity_of_tasks(torch.stack(errors, dim=1).numpy())
    top = parted(affinity, [[number] for number in range(6)], cost=0.1)
    assert sorted(top) == [[0, 2, 4], [1, 3, 5]]
    assert parted(affinity, top, cost=0.1) == top  # and so is the stage below


def test_tasks_that_share_no_row_are_refused() -> None:
    labelled = torch.tensor([[True, True, False], [False, True, True], [False, False, True]])
    with pytest.raises(ConfigurationError, match=r"found none of 'a' and 'c'$"):
        check_rows(labelled, ["a", "b", "c"])
    check_rows(labelled[:2], ["a", "b"])
