"""Representations compared by hand, and the tree that is best under a budget."""

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from app.branching import rsa


def random_affinities(seed: int, tasks: int, stages: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed).uniform(0, 1, (stages, tasks, tasks))
    found = (draw + draw.transpose(0, 2, 1)) / 2
    found[:, range(tasks), range(tasks)] = 1
    return list(found)


def test_dissimilarity_and_affinity_by_hand() -> None:
    draw = np.random.default_rng(0)
    features = [draw.normal(size=(5, 7)) for _ in range(3)]
    matrices = [rsa.dissimilarity(each) for each in features]
    one, other = features[0][1] - features[0][1].mean(), features[0][3] - features[0][3].mean()
    assert_allclose(matrices[0][1, 3], 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    above = [[matrix[i, j] for i in range(5) for j in range(i + 1, 5)] for matrix in matrices]
    assert_allclose(rsa.affinity(matrices)[0, 2], spearmanr(above[0], above[2]).statistic)


def test_cost_and_size_by_hand() -> None:
    """Of branches of three and one, and of two, one and one: (max(.2, .6, .5) + 0) / 2 + (.2 + 0 + 0) / 3."""
    affinity = np.array([[1, 0.8, 0.4, 0], [0.8, 1, 0.5, 0], [0.4, 0.5, 1, 0], [0, 0, 0, 1]])
    tree = (((0, 1, 2), (3,)), ((0, 1), (2,), (3,)))
    assert rsa.cost([affinity, affinity], tree) == pytest.approx(0.6 / 2 + 0.2 / 3)
    assert rsa.size([10, 100], tree) == 320


@pytest.mark.parametrize("seed", range(5))
def test_best_tree_is_that_of_an_exhaustive_search(seed: int) -> None:
    affinities, sizes = random_affinities(seed, tasks=3, stages=3), [5, 30, 65]
    groupings = sorted(rsa._partitions((0, 1, 2)))
    assert len(groupings) == 5
    trees = [
        tree
        for tree in product(groupings, repeat=3)
        if all(rsa._is_within(above, below) for below, above in pairwise(tree))
    ]
    for budget in (100, 130, 170, 230, 300):
        found = rsa.best_tree(affinities, sizes, budget)
        expected = min(rsa.cost(affinities, tree) for tree in trees if rsa.size(sizes, tree) <= budget)
        assert rsa.size(sizes, found) <= budget
        assert rsa.cost(affinities, found) == pytest.approx(expected)
    assert rsa.best_tree(affinities, sizes, 100) == (((0, 1, 2),),) * 3
    assert rsa.best_tree(affinities, sizes, 300) == (((0,), (1,), (2,)),) * 3


def test_planted_groups_of_many_tasks() -> None:
    same = np.arange(8)[:, None] % 2 == np.arange(8) % 2
    affinities = [np.where(np.eye(8) == 1, 1.0, np.where(same, 0.9, within)) for within in (0.9, 0.2, 0.2)]
    tree = rsa.best_tree(affinities, [10, 10, 10], 50)
    assert tree == (((*range(8),),), *[((0, 2, 4, 6), (1, 3, 5, 7))] * 2)


def test_tree_of_a_run_is_a_configuration(train_here: Callable, capfd: pytest.CaptureFixture) -> None:
    train_here("fit", "--config", str(SMALL), "--trainer.max_epochs", "2", "--model.sharing", "IndependentNetworks")
    capfd.readouterr()
    train_here("branches", "--run", "runs/small", "--budget", "2.5")
    text = capfd.readouterr().out
    Path("tree.yaml").write_text(text)
    tree = yaml.safe_load(text)["model"]["sharing"]["init_args"]["tree"]
    assert [*tree] == [0, 1, 2]
    start = ["--model.init_from", "runs/small/version_0/checkpoints/last.ckpt"]
    cli = train_here("fit", "--config", str(SMALL), "--config", "tree.yaml", "--trainer.max_epochs", "1", *start)
    sharing = cli.model.network.sharing
    assert {stage: sharing.groups(stage) for stage in sharing.stages} == tree
    used = sum(p.numel() for p in sharing.parameters()) - sum(p.numel() for p in sharing.unused_parameters())
    whole = sum(p.numel() for p in sharing.networks["left"].parameters())
    assert whole < used <= 2.5 * whole


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--budget", "0.5"], "budget: must be at least 1, the parameters of one backbone, found 0.5"),
        (["--rows", "2"], "rows: must be at least 3, of the 64 of validation, found 2"),
        ([], "run: must be of IndependentNetworks, each of one task, found HardSharing"),
    ],
)
def test_what_gives_no_tree_is_one_line(
    train_here: Callable, capfd: pytest.CaptureFixture, options: list[str], line: str
) -> None:
    sharing = ["--model.sharing", "IndependentNetworks"] if options else []
    train_here("fit", "--config", str(SMALL), "--trainer.max_epochs", "1", *sharing)
    with pytest.raises(SystemExit, match="2"):
        train_here("branches", "--run", "runs/small", *options)
    assert line in capfd.readouterr().err.splitlines()[-1]
